from __future__ import annotations

import pytest

from models.metrics.bootstrap import Interval
from models.report.charts import LineChart, Scale, running_mean


def test_a_scale_holds_all_intervals_and_zero() -> None:
    scale = Scale.around_intervals([Interval(difference=0.02, low=0.01, high=0.03)])
    assert scale.percent(0) == 0
    assert 0 < scale.percent(0.01) < scale.percent(0.03) < 100


def test_a_scale_of_losses_has_zero_towards_its_right_end() -> None:
    scale = Scale.around([-0.04, 0.01])
    assert 0 < scale.percent(-0.04) < scale.percent(0) < scale.percent(0.01) < 100


def test_what_leaves_a_scale_is_drawn_at_its_edge() -> None:
    scale = Scale.around([-1, 1])
    assert (scale.percent(-5), scale.percent(0), scale.percent(5)) == (0, 50, 100)


@pytest.mark.parametrize("values", [[], [0.0], [0.0004], [-3.0, 700.0], [0.12, 0.34]])
def test_ticks_are_few_and_round_and_zero_is_one_of_them(values: list[float]) -> None:
    scale = Scale.around(values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 5
    assert 0 in ticks
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert all(float(f"{tick:.1g}") == pytest.approx(tick) for tick in ticks)


def test_a_line_goes_from_the_first_step_to_the_last_and_down_as_the_loss_falls() -> None:
    chart = LineChart.from_points([(10, 4.0), (20, 3.0), (30, 2.0)])
    assert chart.points == "0.00,0.00 50.00,50.00 100.00,100.00"
    assert (chart.first_step, chart.last_step, chart.low, chart.high) == (10, 30, 2.0, 4.0)


def test_a_curve_of_one_point_and_one_that_never_changes_are_drawn() -> None:
    assert LineChart.from_points([(1, 4.0)]).points == "0.00,0.00"
    assert LineChart.from_points([(1, 4.0), (2, 4.0)]).points == "0.00,0.00 100.00,0.00"


def test_a_running_mean_is_of_the_values_around_each() -> None:
    assert running_mean([1.0, 5.0]) == [1.0, 5.0], "too few to smooth"
    smooth = running_mean([0.0, 2.0] * 20)
    assert smooth[20] == pytest.approx(0.8, abs=0.4)
    assert max(smooth[5:-5]) - min(smooth[5:-5]) < 0.5
