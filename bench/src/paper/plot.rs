//! The frame of a chart: axes, rules, lines and their labels, as SVG.
//!
//! Coordinates are those of the `viewBox`. It is about as wide as a phone, so that letters are never shrunk much.

use std::fmt::Write;

use maud::{Markup, html};

/// Width and height of a chart with axes.
pub(super) const WIDTH: f64 = 400.0;
pub(super) const HEIGHT: f64 = 236.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 40.0;

/// The least distance between the base lines of two labels.
const LABEL_DISTANCE: f64 = 13.0;

/// Longer labels end in an ellipsis.
const LABEL_LETTERS_MAX: usize = 11;

/// One side of the frame: ticks with their places from 0 to 1, and what they measure.
pub(super) struct Axis {
    pub ticks: Vec<(f64, String)>,
    pub title: String,
}

/// Where the frame lies.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    /// What is kept free to the right of it, for labels.
    pub margin: f64,
}

/// The end of a line and what it is called.
pub(super) struct Label {
    pub x: f64,
    pub y: f64,
    pub text: String,
    pub class: String,
}

impl Frame {
    /// The place of a value between 0 and 1 from left to right. Whatever lies outside stays near the frame.
    pub fn x(self, part: f64) -> f64 {
        LEFT + tame(part) * (self.right() - LEFT)
    }

    /// The same from bottom to top.
    pub fn y(self, part: f64) -> f64 {
        HEIGHT - BOTTOM - tame(part) * (HEIGHT - BOTTOM - TOP)
    }

    fn right(self) -> f64 {
        WIDTH - self.margin
    }

    /// A whole chart around `content`; `says` is for those who cannot see it.
    pub fn chart(self, name: &str, says: &str, (x, y): (&Axis, &Axis), content: Markup) -> Markup {
        let (floor, middle) = (HEIGHT - BOTTOM, (LEFT + self.right()) / 2.0);
        html! {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
                title { (name) }
                desc { (says) }
                text.unit x="0" y="10" { (y.title) }
                @for (part, text) in &y.ticks {
                    @let place = self.y(*part);
                    line.grid x1=(round(LEFT)) x2=(round(self.right())) y1=(round(place)) y2=(round(place)) {}
                    text.tick.end x=(round(LEFT - 6.0)) y=(round(place + 4.0)) { (text) }
                }
                @for (part, text) in &x.ticks {
                    @let place = self.x(*part);
                    line.mark x1=(round(place)) x2=(round(place)) y1=(round(floor)) y2=(round(floor + 4.0)) {}
                    text.tick.mid x=(round(place)) y=(round(floor + 16.0)) { (text) }
                }
                line.axis x1=(round(LEFT)) x2=(round(self.right())) y1=(round(floor)) y2=(round(floor)) {}
                text.unit.mid x=(round(middle)) y=(round(HEIGHT - 6.0)) { (x.title) }
                (content)
            }
        }
    }

    /// Labels beside the ends of lines, moved apart where they would overlap.
    pub fn labels(self, mut labels: Vec<Label>) -> Markup {
        labels.sort_by(|a, b| a.y.total_cmp(&b.y));
        let places = apart(&labels.iter().map(|label| label.y).collect::<Vec<_>>(), HEIGHT - BOTTOM);
        let x = self.right() + 9.0;
        html! {
            @for (label, place) in labels.iter().zip(places) {
                @if (label.y - place).abs() > 3.0 || x - label.x > 14.0 {
                    path.leader d=(path(&[(label.x + 2.0, label.y), (x - 3.0, place)])) {}
                }
                text class={ "label " (label.class) } x=(round(x)) y=(round(place + 4.0)) { (short(&label.text)) }
            }
        }
    }
}

/// The points of a line as the data of a path.
pub(super) fn path(points: &[(f64, f64)]) -> String {
    let mut data = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        let _ = write!(data, "{letter}{} {}", round(*x), round(*y));
    }
    data
}

/// At most `count` of some points, evenly chosen, the last among them.
pub(super) fn thinned<T: Copy>(points: &[T], count: usize) -> Vec<T> {
    let step = points.len().div_ceil(count.max(1)).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(index, _)| index % step == 0 || *index == last)
        .map(|(_, point)| *point)
        .collect()
}

/// A coordinate with one digit after the point.
pub(super) fn round(value: f64) -> f64 {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.is_finite() { rounded } else { 0.0 }
}

/// The class that gives a relay its colour and dashes: the first is `r0`, the others take turns.
pub(super) fn class(relay: usize) -> String {
    format!("r{}", if relay == 0 { 0 } else { 1 + (relay - 1) % 4 })
}

/// A label that fits beside a chart.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(LABEL_LETTERS_MAX) {
        Some(_) => text.chars().take(LABEL_LETTERS_MAX - 1).chain(['…']).collect(),
        None => text.into(),
    }
}

fn tame(part: f64) -> f64 {
    if part.is_finite() { part.clamp(-0.02, 1.02) } else { 0.0 }
}

/// Moves sorted places apart, upwards where they would pass `floor`.
fn apart(places: &[f64], floor: f64) -> Vec<f64> {
    let mut moved: Vec<f64> = places.to_vec();
    for index in 1..moved.len() {
        moved[index] = moved[index].max(moved[index - 1] + LABEL_DISTANCE);
    }
    let mut limit = floor;
    for place in moved.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - LABEL_DISTANCE;
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_move_apart_and_stay_above_the_floor() {
        assert_eq!(apart(&[10.0, 50.0], 100.0), [10.0, 50.0]);
        assert_eq!(apart(&[10.0, 12.0, 14.0], 100.0), [10.0, 23.0, 36.0]);
        assert_eq!(apart(&[98.0, 99.0], 100.0), [87.0, 100.0]);
        assert_eq!(apart(&[], 100.0), [0.0; 0]);
    }

    #[test]
    fn thinning_keeps_the_ends() {
        let points: Vec<usize> = (0..1001).collect();
        let kept = thinned(&points, 100);
        assert!(kept.len() <= 101 && kept[0] == 0 && kept[kept.len() - 1] == 1000, "{kept:?}");
        assert_eq!(thinned(&[1, 2, 3], 100), [1, 2, 3]);
        assert!(thinned::<u8>(&[], 100).is_empty());
    }

    #[test]
    fn coordinates_are_finite_whatever_comes() {
        let frame = Frame { margin: 10.0 };
        for wild in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1e300] {
            for place in [frame.x(wild), frame.y(wild)] {
                assert!((-20.0..=420.0).contains(&place), "{wild} at {place}");
            }
        }
        assert_eq!(path(&[(f64::NAN, 1.04), (2.0, 3.0)]), "M0 1L2 3");
    }

    #[test]
    fn long_labels_end_in_an_ellipsis() {
        assert_eq!(short("postfix"), "postfix");
        assert_eq!(short("a-very-long-name"), "a-very-lon…");
        assert_eq!(short("ÄÖÜÄÖÜÄÖÜÄÖ"), "ÄÖÜÄÖÜÄÖÜÄÖ");
    }
}
