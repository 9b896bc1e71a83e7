//! Ours, and the others, to Envoy: a bar each, and a mark where ours is to be.

use std::path::Path;

use plotters::{
    element::{PathElement, Rectangle, Text},
    style::{Color as _, RGBColor},
};

use super::{Area, INK, MARK, color, failed, picture, text};
use crate::{
    report::{Judged, Report, Row},
    rival::Kind,
    scenario::Yardstick,
};

const WIDTH: u32 = 900;
/// Where bars begin and where they end at the latest.
const LEFT: i32 = 250;
const RIGHT: i32 = 840;
/// The ratio at the right end; a longer bar is cut and its number says so.
const LONGEST: f64 = 1.6;
const TOP: i32 = 60;
const BAR: i32 = 11;
const GAP: i32 = 14;
/// Width of a number.
const NUMBER: i32 = 32;

/// The bars of one target against Envoy.
struct Group<'a> {
    row: &'a Row,
    judged: &'a Judged,
    bars: Vec<(Kind, f64)>,
}

pub(super) fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    let groups: Vec<_> = report.rows.iter().flat_map(Group::of).collect();
    let height = TOP + groups.iter().map(Group::height).sum::<i32>() + GAP;
    picture(file, (WIDTH, u32::try_from(height)?), |area| {
        legend(area)?;
        line(area, at(1.0), (TOP - 8, height - GAP), color(Kind::Envoy))?;
        let mut y = TOP;
        for group in &groups {
            group.draw(area, y)?;
            y += group.height();
        }
        Ok(())
    })
}

impl<'a> Group<'a> {
    fn of(row: &'a Row) -> impl Iterator<Item = Self> {
        let judged = row.targets.iter();
        let against_envoy = judged.filter(|judged| judged.of == Yardstick::Rival(Kind::Envoy));
        against_envoy.filter_map(|judged| Self::new(row, judged))
    }

    fn new(row: &'a Row, judged: &'a Judged) -> Option<Self> {
        let least = |kind| Some(row.proxies.get(&kind)?.get(&judged.metric)?.min);
        let envoy = least(Kind::Envoy)?;
        let others = [Kind::Sallyport, Kind::Haproxy, Kind::Nginx];
        let bars = others.into_iter().filter_map(|kind| Some((kind, least(kind)? / envoy)));
        let bars = bars.collect();
        Some(Self { row, judged, bars })
    }

    fn height(&self) -> i32 {
        BAR * i32::try_from(self.bars.len()).unwrap_or(0) + GAP
    }

    /// Where a bar's number begins: behind the bar, and behind the target's mark if that is in the way.
    fn beside(&self, kind: Kind, ratio: f64) -> i32 {
        let (end, mark) = (at(ratio), at(self.judged.at_most));
        let in_the_way = kind == Kind::Sallyport && (end..end + NUMBER).contains(&mark);
        4 + if in_the_way { mark } else { end }
    }

    fn draw(&self, area: &Area<'_>, top: i32) -> anyhow::Result<()> {
        let what = format!("{} · {}", self.row.scenario, self.judged.metric.label());
        area.draw(&Text::new(what, (10, top), text(14, INK))).map_err(failed)?;
        let mut y = top;
        for &(kind, ratio) in &self.bars {
            let corners = [(LEFT, y), (at(ratio), y + BAR - 2)];
            area.draw(&Rectangle::new(corners, color(kind).filled()))
                .map_err(failed)?;
            let number = Text::new(format!("{ratio:.2}"), (self.beside(kind, ratio), y - 1), text(11, INK));
            area.draw(&number).map_err(failed)?;
            y += BAR;
        }
        line(area, at(self.judged.at_most), (top - 2, top + BAR), MARK)
    }
}

fn legend(area: &Area<'_>) -> anyhow::Result<()> {
    let title = "cost to Envoy's in the same run, by minima; less is better";
    area.draw(&Text::new(title, (10, 8), text(15, INK))).map_err(failed)?;
    let mut x = 10;
    for kind in Kind::ALL {
        let said = if kind == Kind::Envoy { "envoy = 1" } else { kind.name() };
        area.draw(&Rectangle::new([(x, 34), (x + 10, 44)], color(kind).filled()))
            .map_err(failed)?;
        area.draw(&Text::new(said, (x + 15, 32), text(13, INK)))
            .map_err(failed)?;
        x += 100;
    }
    line(area, x + 5, (32, 46), MARK)?;
    area.draw(&Text::new("target", (x + 15, 32), text(13, INK)))
        .map_err(failed)
}

fn line(area: &Area<'_>, x: i32, (top, bottom): (i32, i32), color: RGBColor) -> anyhow::Result<()> {
    let path = PathElement::new([(x, top), (x, bottom)], color.stroke_width(2));
    area.draw(&path).map_err(failed)
}

/// Where a ratio's bar ends.
#[allow(clippy::cast_possible_truncation)] // below the picture's width
fn at(ratio: f64) -> i32 {
    let share = ratio.clamp(0.0, LONGEST) / LONGEST;
    LEFT + (share * f64::from(RIGHT - LEFT)) as i32
}
