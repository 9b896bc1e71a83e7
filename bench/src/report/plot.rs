//! The report as pictures: SVG in colours that can be read on light and on dark pages.

use std::path::Path;

use anyhow::anyhow;
use plotters::{
    backend::SVGBackend,
    coord::Shift,
    drawing::DrawingArea,
    prelude::{IntoDrawingArea as _, IntoFont as _},
    style::{RGBColor, TextStyle},
};

use super::Report;
use crate::rival::Kind;

mod growth;
mod latency;
mod lines;
mod overview;

/// Text and axes: as far from white as from black.
const INK: RGBColor = RGBColor(128, 134, 142);
/// Where a target is.
const MARK: RGBColor = RGBColor(210, 153, 34);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the pictures of what was measured into a directory.
pub(super) fn write(report: &Report, directory: &Path) -> anyhow::Result<()> {
    overview::draw(report, &directory.join("overview.svg"))?;
    latency::draw(report, &directory.join("latency.svg"))?;
    growth::draw(report, &directory.join("growth.svg"))
}

/// A picture; what is drawn goes through the function, what goes wrong keeps the file's name.
fn picture(file: &Path, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let area = SVGBackend::new(file, size).into_drawing_area();
    draw(&area)?;
    area.present()
        .map_err(|error| anyhow!("{}: cannot be written: {error}", file.display()))
}

/// What plotters cannot draw, which only a file that cannot be written makes it say.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a picture cannot be drawn: {error}")
}

fn text(size: i32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Sallyport => RGBColor(47, 129, 247),
        Kind::Envoy => RGBColor(191, 91, 201),
        Kind::Haproxy => RGBColor(63, 160, 80),
        Kind::Nginx => RGBColor(139, 148, 158),
    }
}
