import numpy as np
import pytest

from cfaan_jax.metrics.search import Search
from cfaan_jax.report.frames import spread
from cfaan_jax.report.ranked_queries import label_text, select
from tests import tiny_records


@pytest.fixture(scope="module")
def search():
    rng = np.random.default_rng(0)
    pids = np.concatenate([np.arange(1, 31), np.arange(1, 31), [0, -1]])
    return Search(rng.standard_normal((62, 4)).astype(np.float32), 30, np.array([f"t{i}" for i in range(62)]),
                  np.arange(62), pids, np.repeat([1, 2], [30, 32]), tiny_records.ABOUT)


def test_the_worst_and_a_spread_of_the_others(search):
    score = search.score("mars")["mars"]
    chosen = select(search, score, None, 10)
    rising = np.sort(score.ap)
    assert [each.ap for each in chosen.worst] == rising[:5].tolist()
    assert [each.ap for each in chosen.typical] == rising[5:][[2, 7, 12, 17, 22]].tolist()
    for each in chosen.all():
        place = score.valid.tolist().index(each.row)
        assert (each.ap, each.first) == (score.ap[place], score.first[place])
        assert len(each.answers) == 10
        ranks = [answer.kind for answer in each.answers if answer.kind != "ignored"]
        assert ("right" in ranks) == (each.first <= len(ranks))
        if "right" in ranks:
            assert ranks.index("right") + 1 == each.first
    few = chosen.few(4)
    assert few.worst == chosen.worst[:2] and few.typical == [chosen.typical[1], chosen.typical[3]]


@pytest.mark.parametrize("count, worst, typical", [(1, 1, 0), (2, 1, 1), (30, 15, 15), (1000, 15, 15)])
def test_few_or_all_queries(search, count, worst, typical):
    chosen = select(search, search.score("mars")["mars"], None, count)
    assert (len(chosen.worst), len(chosen.typical)) == (worst, typical)
    assert len({each.row for each in chosen.all()}) == worst + typical


def test_spread():
    assert spread(range(9), 3) == [1, 4, 7] and spread([1, 2], 5) == [1, 2] and spread([], 3) == []


def test_labels(search):
    assert [label_text(search, row) for row in (4, 34, 60, 61)] == ["id 5, cam 1", "id 5, cam 2", "distractor, cam 2",
                                                            "junk, cam 2"]
