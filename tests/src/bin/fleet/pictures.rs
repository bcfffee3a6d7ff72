//! What our boards show of the story, drawn without Grafana: one SVG a board. Simpler than Grafana in
//! all respects but the queries and where panels are, which are the boards' own.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use resumetry_tests::prometheus::{BoardQuery, Prometheus, Range, board_queries};
use resumetry_tests::repository;
use serde_json::Value;

/// Pixels of a column and a row of Grafana's grid, and around panels.
const COLUMN: f64 = 50.0;
const ROW: f64 = 34.0;
const GAP: f64 = 4.0;
const HEAD: f64 = 44.0;

/// Points of a line.
const POINTS: f64 = 240.0;

/// Lines and rows that a panel shows.
const SERIES: usize = 8;

const COLORS: [&str; SERIES] = [
    "#3274d9", "#56a64b", "#e0b400", "#e02f44", "#a352cc", "#ff780a", "#37872d", "#8f3bb8",
];

/// Draws all boards into `directory`, as of the last `seconds`.
pub fn draw(prometheus: &Prometheus, seconds: f64, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut queries: VecDeque<BoardQuery> = board_queries()?.into();
    let mut boards: Vec<_> = fs::read_dir(repository().join("dashboards"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .collect();
    boards.sort();
    for path in boards {
        let board: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let uid = board["uid"].as_str().context("a board without uid")?;
        let (own, others) = queries.into_iter().partition(|query| query.board == uid);
        queries = others;
        let picture = draw_board(prometheus, seconds, &board, own)?;
        fs::write(directory.join(format!("{uid}.svg")), picture)?;
    }
    Ok(())
}

/// A series.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A rectangle of the picture.
#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Place {
    fn of(panel: &Value) -> Self {
        let grid = |name: &str| panel["gridPos"][name].as_f64().unwrap_or(0.0);
        Self {
            x: grid("x") * COLUMN + GAP,
            y: grid("y") * ROW + HEAD + GAP,
            width: grid("w") * COLUMN - 2.0 * GAP,
            height: grid("h") * ROW - 2.0 * GAP,
        }
    }
}

fn draw_board(
    prometheus: &Prometheus,
    seconds: f64,
    board: &Value,
    mut queries: VecDeque<BoardQuery>,
) -> Result<String> {
    let panels = board["panels"]
        .as_array()
        .context("a board without panels")?;
    let bottom = panels
        .iter()
        .map(|panel| {
            let place = Place::of(panel);
            place.y + place.height
        })
        .fold(0.0, f64::max);
    let (width, height) = (24.0 * COLUMN, bottom + 2.0 * GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#f4f5f5\"/>\n"
    );
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let title = board["title"].as_str().unwrap_or_default();
    text(&mut svg, 12.0, 28.0, 18.0, "#222", title)?;
    for panel in panels {
        let place = Place::of(panel);
        let kind = panel["type"].as_str().unwrap_or_default();
        let title = panel["title"].as_str().unwrap_or_default();
        if kind == "row" {
            text(&mut svg, place.x + 4.0, place.y + 18.0, 14.0, "#222", title)?;
            continue;
        }
        let Place {
            x,
            y,
            width,
            height,
        } = place;
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"#fff\" \
             stroke=\"#d8d9da\"/>"
        )?;
        text(&mut svg, x + 8.0, y + 16.0, 12.0, "#222", title)?;
        let mut lines = Vec::new();
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        for (asked, target) in queries
            .drain(..targets.len().min(queries.len()))
            .zip(targets)
        {
            // Windows as long as those that the rules have in this story.
            let query = asked.query.replace("[5m]", "[10s]");
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let found = prometheus.range(&query, seconds, seconds / POINTS)?;
            lines.extend(found.into_iter().map(|range| Line {
                name: name(&range, legend),
                points: range.points,
            }));
        }
        let unit = panel["fieldConfig"]["defaults"]["unit"]
            .as_str()
            .unwrap_or_default();
        match kind {
            "stat" => big(&mut svg, place, &lines, unit)?,
            "table" | "bargauge" => list(&mut svg, place, &lines, unit)?,
            _ => graph(&mut svg, place, &lines, unit, (end - seconds, end))?,
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn text(svg: &mut String, x: f64, y: f64, size: f64, color: &str, text: &str) -> Result<()> {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        svg,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" font-size=\"{size}\" fill=\"{color}\">{text}</text>"
    )?;
    Ok(())
}

/// A value as people read it.
fn shown(value: f64, unit: &str) -> String {
    match unit {
        "percentunit" => format!("{:.1} %", value * 100.0),
        "s" | "dtdurations" if value.abs() < 1e-3 => format!("{:.0} µs", value * 1e6),
        "s" | "dtdurations" if value.abs() < 1.0 => format!("{:.2} ms", value * 1e3),
        "s" | "dtdurations" => format!("{value:.1} s"),
        "bytes" | "decbytes" if value >= 1e6 => format!("{:.1} MB", value / 1e6),
        "ops" | "reqps" | "cps" => format!("{value:.1}/s"),
        _ if value.fract() == 0.0 => format!("{value}"),
        _ => format!("{value:.3}"),
    }
}

fn last(line: &Line) -> f64 {
    line.points.last().map_or(f64::NAN, |(_, value)| *value)
}

/// As the board calls it, or by its labels.
fn name(range: &Range, legend: &str) -> String {
    if !["", "__auto"].contains(&legend) {
        let labels = range.metric.iter();
        return labels.fold(legend.to_owned(), |text, (label, value)| {
            text.replace(&format!("{{{{{label}}}}}"), value)
        });
    }
    let further = range
        .metric
        .iter()
        .filter(|(name, _)| *name != "__name__" && *name != "job");
    further
        .map(|(_, value)| value.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn big(svg: &mut String, place: Place, lines: &[Line], unit: &str) -> Result<()> {
    let value = lines
        .first()
        .map_or("no data".to_owned(), |line| shown(last(line), unit));
    let middle = place.y + place.height / 2.0 + 14.0;
    text(svg, place.x + 12.0, middle, 26.0, "#3274d9", &value)
}

fn list(svg: &mut String, place: Place, lines: &[Line], unit: &str) -> Result<()> {
    if lines.is_empty() {
        return text(svg, place.x + 12.0, place.y + 36.0, 12.0, "#888", "no data");
    }
    let room = ((place.height - 24.0) / 16.0) as usize;
    for (row, line) in lines.iter().take(room).enumerate() {
        let y = place.y + 36.0 + 16.0 * row as f64;
        text(svg, place.x + 12.0, y, 11.0, "#444", &line.name)?;
        let x = place.x + place.width - 80.0;
        text(svg, x, y, 11.0, "#222", &shown(last(line), unit))?;
    }
    Ok(())
}

/// The last is from when to when, the same in all graphs of a board.
fn graph(
    svg: &mut String,
    place: Place,
    lines: &[Line],
    unit: &str,
    (begin, end): (f64, f64),
) -> Result<()> {
    if lines.is_empty() {
        return text(svg, place.x + 12.0, place.y + 36.0, 12.0, "#888", "no data");
    }
    let lines = &lines[..lines.len().min(SERIES)];
    let legend = 14.0 * lines.len() as f64;
    let (left, top) = (place.x + 64.0, place.y + 28.0);
    let width = place.width - 76.0;
    let height = (place.height - 40.0 - legend).max(20.0);
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = points()
        .map(|(_, value)| *value)
        .filter(|value| value.is_finite());
    let most = most.fold(0.0, f64::max).max(1e-9);
    for (share, value) in [(0.0, most), (1.0, 0.0)] {
        let y = top + height * share;
        text(
            svg,
            place.x + 6.0,
            y + 4.0,
            10.0,
            "#888",
            &shown(value, unit),
        )?;
        writeln!(
            svg,
            "<line x1=\"{left:.0}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e5e6\"/>",
            left + width
        )?;
    }
    for (index, line) in lines.iter().enumerate() {
        let color = COLORS[index];
        let path: String = line
            .points
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(time, value)| {
                let x = left + width * (time - begin) / (end - begin).max(1e-9);
                let y = top + height * (1.0 - (value / most).clamp(0.0, 1.0));
                format!("{x:.1},{y:.1} ")
            })
            .collect();
        writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\"/>"
        )?;
        let y = top + height + 16.0 + 14.0 * index as f64;
        writeln!(
            svg,
            "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"10\" height=\"4\" fill=\"{color}\"/>",
            place.x + 12.0,
            y - 5.0
        )?;
        let label = format!("{}  {}", line.name, shown(last(line), unit));
        text(svg, place.x + 28.0, y, 10.0, "#444", &label)?;
    }
    Ok(())
}
