import numpy as np
import pytest

from cfaan_jax.metrics import protocols
from tests.data_prep.checks import check_refused


def rows(name, query_pids, gallery_pids, query_tracks, gallery_tracks):
    return protocols.gallery_rows(protocols.get(name), *map(np.array, (query_pids, gallery_pids, query_tracks,
                                                                       gallery_tracks))).tolist()


def test_galleries_by_hand():
    """Two queries (rows 0 and 1) and a gallery of junk, distractor and two people (rows 2 to 5)."""
    split = ([7, 9], [-1, 0, 7, 9], [1, 4], [0, 2, 3, 5])
    assert rows("mars_matlab", *split) == [2, 0, 3, 4, 1, 5]  # the order of the file
    assert rows("mars_with_queries", *split) == [0, 1, 3, 4, 5]
    assert rows("mars", *split) == [3, 4, 5]
    assert rows("cfaan_released", *split) == [4, 5]
    assert rows("dukev", *split) == [2, 3, 4, 5]
    for name in ("mars_matlab", "mars_with_queries", "mars", "cfaan_released", "dukev"):
        assert rows(f"{name}_revised", *split) == rows(name, *split)


def test_revised_protocols_change_the_rules_only():
    for protocol in protocols.PROTOCOLS.values():
        if not protocol.revised:
            revised = protocols.get(f"{protocol.name}_revised")
            assert revised.revised and not revised.trapezoid and not revised.every_query
            assert revised.sizes.gallery == protocol.sizes.gallery and revised.sizes.valid is None


def test_definitions_are_frozen():
    with pytest.raises(AttributeError):
        protocols.get("mars").queries = True


def test_resolve():
    assert [protocol.name for protocol in protocols.resolve("mars, mars_revised,mars")] == ["mars", "mars_revised"]
    assert [protocol.name for protocol in protocols.resolve(("dukev", "mars,"))] == ["dukev", "mars"]
    everything = [protocol.name for protocol in protocols.resolve("all")]
    assert [protocol.name for protocol in protocols.resolve(("all",))] == everything
    assert len(everything) == 8 and "dukev" not in everything
    assert [protocol.name for protocol in protocols.resolve("all", "dukev")] == ["dukev", "dukev_revised"]
    assert [protocol.name for protocol in protocols.resolve("dukev,all,mars")] == ["dukev", *everything]
    check_refused(r"protocols \(1,\): must be names", protocols.resolve, (1,))
    check_refused("unknown protocol 'mrs'; choose from mars_matlab, ", protocols.resolve, "mars,mrs")
    for nothing in ((), ("",), " , "):
        check_refused("no protocol is named", protocols.resolve, nothing)
