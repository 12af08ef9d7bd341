"""The flywheel's configuration: the key `projects/flywheel` of the store, read as attributes."""

from dagfactory_consul import ProjectConfig

config = ProjectConfig("flywheel")
