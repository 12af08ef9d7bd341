"""The Consul program out of a container image, for machines without one and without Debian's archive."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

IMAGE = "hashicorp/consul:1.15"


def consul_from_image(folder: Path) -> Path:
    """Copy the program out of Consul's image: so the tests start and kill it in the same way as any other."""
    from testcontainers.core.container import DockerContainer

    with DockerContainer(IMAGE) as container:
        chunks, _ = container.get_wrapped_container().get_archive("/bin/consul")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            program = archive.extractfile("consul")
            assert program is not None  # a folder of this name
            (folder / "consul").write_bytes(program.read())
    (folder / "consul").chmod(0o755)
    return folder / "consul"
