//! A line for each proxy on logarithmic axes.

use std::path::Path;

use plotters::{
    chart::ChartBuilder,
    coord::combinators::IntoLogRange as _,
    element::{Circle, Text},
    series::LineSeries,
    style::Color as _,
};

use super::{INK, color, failed, picture, text};
use crate::rival::Kind;

const SIZE: (u32, u32) = (900, 420);

/// A proxy's points.
pub(super) type Line = (Kind, Vec<(f64, f64)>);

/// Draws those lines that have at least two points, and nothing if none has.
pub(super) fn draw(file: &Path, title: &str, lines: Vec<Line>, label: fn(&f64) -> String) -> anyhow::Result<()> {
    let lines: Vec<_> = lines.into_iter().filter(|(_, points)| points.len() > 1).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let values = || lines.iter().flat_map(|(_, points)| points);
    let nearest = values().map(|(x, _)| *x).fold(f64::MAX, f64::min);
    let furthest = values().map(|(x, _)| *x).fold(1.0, f64::max);
    let least = values().map(|(_, y)| *y).fold(f64::MAX, f64::min);
    let most = values().map(|(_, y)| *y).fold(1.0, f64::max);
    picture(file, SIZE, |area| {
        area.draw(&Text::new(title, (10, 8), text(15, INK))).map_err(failed)?;
        let mut chart = ChartBuilder::on(area)
            .margin_top(40)
            .margin_right(90)
            .x_label_area_size(30)
            .y_label_area_size(80)
            .build_cartesian_2d(
                (nearest * 0.8..furthest * 1.3).log_scale(),
                (least / 1.5..most * 1.5).log_scale(),
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_label_formatter(&label)
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style(text(13, INK))
            .axis_style(INK)
            .bold_line_style(INK.mix(0.3))
            .light_line_style(INK.mix(0.1))
            .draw()
            .map_err(failed)?;
        for (kind, points) in &lines {
            let line = LineSeries::new(points.clone(), color(*kind).stroke_width(2));
            chart.draw_series(line).map_err(failed)?;
            let dots = points.iter().map(|point| Circle::new(*point, 3, color(*kind).filled()));
            chart.draw_series(dots).map_err(failed)?;
            let end = points.last();
            let name = end.map(|(x, y)| Text::new(kind.name(), (x * 1.05, *y), text(13, color(*kind))));
            chart.draw_series(name).map_err(failed)?;
        }
        Ok(())
    })
}
