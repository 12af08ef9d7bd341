"""Which DAG stands in which file."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dagfactory_consul.arrangement import ALONE, SHARD_DAGS, Limits, arrange, own_file, shard

LIMITS = Limits(own_files=5, shards=3)
WIDE = Limits(own_files=200, shards=128)

tenants = st.dictionaries(
    st.sampled_from([f"d{number}" for number in range(30)]), st.sampled_from("abcdefghijklmno"), max_size=30
)
rounds = st.lists(st.tuples(tenants, st.sets(st.sampled_from([f"d{number}" for number in range(30)]))), max_size=6)


def of_tenants(count: int, dags: int = 1) -> dict[str, str]:
    """Return DAGs and whose they are."""
    return {f"t{tenant:04}__{dag}": f"t{tenant:04}" for tenant in range(count) for dag in range(dags)}


def moved(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {dag_id for dag_id, file in after.items() if before.get(dag_id) != file}


@given(rounds, st.integers(0, 5), st.integers(1, 3))
def test_every_dag_has_one_place_within_the_limits(
    steps: list[tuple[dict[str, str], set[str]]], own: int, shards: int
) -> None:
    """Each DAG, and no other, stands in a shared file or in its own tenant's, and there are no more than allowed."""
    places: dict[str, str] = {}
    for now, changed in steps:
        places = arrange(places, now, changed, Limits(own, shards))
        assert places.keys() == now.keys()
        assert all(file in {shard(0), shard(1), shard(2), own_file(now[dag_id])} for dag_id, file in places.items())
        files = set(places.values())
        assert len([file for file in files if file.startswith("tenants/")]) <= own
        assert files.isdisjoint({shard(number) for number in range(shards, 5)})


@given(rounds)
def test_what_has_not_changed_does_not_move(steps: list[tuple[dict[str, str], set[str]]]) -> None:
    """A DAG that has not changed, and is still of the same tenant, stays where it is."""
    places: dict[str, str] = {}
    whose: dict[str, str] = {}
    for now, changed in steps:
        before, places = places, arrange(places, now, changed, LIMITS)
        stays = {dag_id for dag_id in before if now.get(dag_id) == whose[dag_id]} - changed
        assert moved(before, places).isdisjoint(stays)
        whose = now


@given(rounds)
def test_equal_histories_give_equal_places(steps: list[tuple[dict[str, str], set[str]]]) -> None:
    """Nothing depends on the order in which sets and dictionaries happen to give their contents."""
    here: dict[str, str] = {}
    there: dict[str, str] = {}
    for now, changed in steps:
        here = arrange(here, now, changed, LIMITS)
        there = arrange(
            dict(reversed(there.items())), dict(reversed(now.items())), sorted(changed, reverse=True), LIMITS
        )
        assert here == there


def test_a_first_load_fills_shared_files() -> None:
    """Many that come together share files, each filled with as many as it takes, no more than needed."""
    load = Counter(arrange({}, of_tenants(1000), (), WIDE).values())
    assert len(load) == 1000 // SHARD_DAGS
    assert set(load.values()) == {SHARD_DAGS}


def test_a_first_load_beyond_the_limits_is_spread_evenly() -> None:
    """What would fill all shared files is spread over half of them: the others stay free for what changes."""
    load = Counter(arrange({}, of_tenants(1000), (), Limits(0, 6)).values())
    assert sorted(load.values()) == [333, 333, 334]


def test_a_large_deployment_has_room_for_a_change_of_many() -> None:
    """However many DAGs a first load brings, those of 200 tenants are put together when they change."""
    now = of_tenants(10_000, dags=2)
    changed = {dag_id for dag_id in now if dag_id.endswith("__1") and int(dag_id[1:5]) % 50 == 0}
    after = arrange(arrange({}, now, (), WIDE), now, changed, WIDE)
    touched = {after[dag_id] for dag_id in changed}
    assert len(changed) == 200
    assert len(touched) == 200 // SHARD_DAGS
    assert {dag_id for dag_id, file in after.items() if file in touched} == changed


def test_more_than_the_free_files_take_stay_where_they_are() -> None:
    """A change of more than what is put together well is parsed where it stands: no file grows beyond measure."""
    now = of_tenants(1000)
    limits = Limits(0, 8)
    before = arrange({}, now, (), limits)
    assert arrange(before, now, set(sorted(now)[::4]), limits) == before


def test_a_single_change_goes_to_its_own_file() -> None:
    """A DAG that changes alone leaves its shared file for its tenant's own; its neighbours stay."""
    now = of_tenants(1000, dags=2)
    before = arrange({}, now, (), WIDE)
    after = arrange(before, now, {"t0007__1"}, WIDE)
    assert moved(before, after) == {"t0007__1"}
    assert after["t0007__1"] == "tenants/t0007.py"


def test_few_that_change_together_count_as_single_ones() -> None:
    """Up to a number each tenant that changes gets its own file."""
    now = of_tenants(1000)
    changed = sorted(now)[:ALONE]
    after = arrange(arrange({}, now, (), WIDE), now, changed, WIDE)
    assert all(after[dag_id] == own_file(now[dag_id]) for dag_id in changed)


def test_many_that_change_together_land_in_few_files() -> None:
    """A change of 200 tenants is parsed from a few files that nothing else stands in."""
    now = of_tenants(1000)
    changed = set(sorted(now)[::5])
    before = arrange({}, now, (), WIDE)
    after = arrange(before, now, changed, WIDE)
    assert moved(before, after) == changed
    touched = {after[dag_id] for dag_id in changed}
    assert len(touched) == 200 // SHARD_DAGS
    assert {dag_id for dag_id, file in after.items() if file in touched} == changed


def test_the_same_many_stay_the_second_time() -> None:
    """Those that have been put together stay together: a flag that is flipped back moves nothing."""
    now = of_tenants(1000)
    changed = set(sorted(now)[::5])
    before = arrange(arrange({}, now, (), WIDE), now, changed, WIDE)
    assert moved(before, arrange(before, now, changed, WIDE)) == set()


def test_what_fills_most_of_a_file_stays_in_it() -> None:
    """A file of which the most is parsed again anyway is no reason to move; of another one they are taken out."""
    now = of_tenants(200)
    before = arrange({}, now, (), WIDE)
    changed = set(sorted(now)[: SHARD_DAGS * 3 // 5]) | set(sorted(now)[180:])
    assert moved(before, arrange(before, now, changed, WIDE)) == set(sorted(now)[180:])


def test_flips_of_changing_groups_never_run_out_of_files() -> None:
    """However often other groups change together, each DAG has its place, and moves only when it changes."""
    now = of_tenants(600)
    places = arrange({}, now, (), WIDE)
    for step in range(2, 40):
        changed = set(sorted(now)[step % 7 :: step])
        before, places = places, arrange(places, now, changed, WIDE)
        assert moved(before, places) <= changed
    assert places.keys() == now.keys()


def test_without_room_for_own_files_a_change_stays() -> None:
    """When there may be no more own files a single change is parsed where it stands."""
    now = of_tenants(100)
    before = arrange({}, now, (), Limits(0, 4))
    assert arrange(before, now, {"t0007__0"}, Limits(0, 4)) == before


def test_fewer_shared_files_than_before() -> None:
    """Who stands in a file that may not be any more moves to one that may."""
    now = of_tenants(500)
    before = arrange({}, now, (), WIDE)
    after = arrange(before, now, (), Limits(200, 2))
    assert set(after.values()) <= {shard(0), shard(1)}


def test_an_id_that_goes_to_another_tenant_leaves_the_first_ones_file() -> None:
    """A tenant's own file holds that tenant's DAGs alone."""
    places = arrange({"x": "tenants/a.py"}, {"x": "b"}, (), WIDE)
    assert places == {"x": "tenants/b.py"}
