//! The plot: for each part a bar of what of the floor is reached, and a line at the aim. A picture of
//! rectangles and text is written faster than a library for it is read, so it is written here.

use std::fmt::Write;

use crate::contestant::Contestant;
use crate::part::Part;
use crate::report::Row;

/// The height of a bar and what is between two, in pixels.
const STEP: f64 = 26.0;
/// Where bars begin, and how long the longest may be.
const LEFT: f64 = 330.0;
const WIDTH: f64 = 420.0;

/// One bar.
struct Bar {
    label: String,
    value: f64,
    aim: Option<f64>,
}

/// The bars: by requests per second on SQLite, by the server's CPU on PostgreSQL.
fn bars(rows: &[Row]) -> Vec<Bar> {
    let Some(floor) = rows.iter().find(|row| row.contestant == Contestant::Floor) else { return Vec::new() };
    let mut bars = Vec::new();
    for part in Part::ALL {
        for row in rows {
            let (value, by) = match row.contestant {
                Contestant::Floor => continue,
                Contestant::Sqlite => (row.ratio(floor, part, |m| m.rps), "SQLite"),
                Contestant::Postgres => (row.of_floor_by_cpu(floor, part), "PostgreSQL, by CPU"),
            };
            let Some(value) = value else { continue };
            bars.push(Bar { label: format!("{} ({by})", part.name()), value, aim: part.aim(row.contestant) });
        }
    }
    bars
}

/// The plot as SVG.
#[must_use]
pub fn svg(rows: &[Row]) -> String {
    let bars = bars(rows);
    let longest = bars.iter().map(|bar| bar.value.max(bar.aim.unwrap_or(1.0))).fold(1.0, f64::max);
    let x = |value: f64| LEFT + value / longest * WIDTH;
    #[allow(clippy::cast_precision_loss, reason = "there are a handful of bars")]
    let height = bars.len() as f64 * STEP + 50.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"820\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"20\">Times the floor (grey line: the floor; red line: the aim)</text>\n"
    );
    let mut y = 34.0;
    for bar in &bars {
        let (end, middle) = (x(bar.value), y + STEP * 0.55);
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{middle:.1}\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#3b6ea5\"/>\n\
             <text x=\"{:.1}\" y=\"{middle:.1}\">{:.2}</text>",
            bar.label,
            end - LEFT,
            STEP - 8.0,
            end.max(x(bar.aim.unwrap_or(0.0))) + 6.0,
            bar.value,
        );
        if let Some(aim) = bar.aim {
            let _ = writeln!(
                svg,
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{y:.1}\" y2=\"{1:.1}\" stroke=\"#c0392b\" stroke-width=\"2\"/>",
                x(aim),
                y + STEP - 8.0
            );
        }
        y += STEP;
    }
    let one = x(1.0);
    let _ = writeln!(
        svg,
        "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"30\" y2=\"{y:.1}\" stroke=\"#777\" stroke-dasharray=\"4 3\"/>\n</svg>"
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::{Measured, Turn};

    #[test]
    fn a_bar_is_as_long_as_its_ratio() {
        let row = |contestant, rps| {
            let (p50_ms, p99_ms, cpu) = (1.0, 2.0, 1.0 / rps);
            let measured = Measured {
                rps,
                p50_ms,
                p99_ms,
                cpu,
                database_cpu: None,
                server_busy: 1.0,
                others: 0.0,
                load_busy: 0.5,
            };
            let turn = Turn { parts: [(Part::TokensEs256, measured)].into(), size: None, database: None };
            Row { contestant, turns: vec![turn] }
        };
        let plot = svg(&[row(Contestant::Floor, 100.0), row(Contestant::Sqlite, 80.0)]);
        assert!(plot.contains(">Tokens, ES256 (SQLite)</text>"), "{plot}");
        assert!(plot.contains(r#"width="336.0""#) && plot.contains(">0.80</text>"), "{plot}");
    }
}
