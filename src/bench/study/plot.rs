//! Plots as SVG: percentiles by nines, and latencies by time; runs laid one over the other.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::super::tools::ToolFailed;
use super::finding::{Figures, Finding};

const SIZE: (u32, u32) = (960, 460);
/// Points of a line: more than the plot has columns show nothing more.
const POINTS_MAX: usize = 1_500;
/// Nines beyond which no run has records enough.
const NINES_MAX: f64 = 7.0;
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(23, 190, 207),
    RGBColor(140, 86, 75),
    RGBColor(127, 127, 127),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of a plot: its points, its name if the legend has it, its style.
struct Line {
    points: Vec<(f64, f64)>,
    name: Option<String>,
    style: ShapeStyle,
}

/// Latency by percentile: the axis counts nines, so 99 % is as far from 90 % as 99.9 % is from 99 %.
///
/// # Errors
/// The plotting crate's word.
pub fn percentiles(runs: &[Finding]) -> Result<String, ToolFailed> {
    let lines = runs.iter().enumerate().map(|(place, run)| Line {
        points: run.curve.iter().map(|&(quantile, us)| (nines(quantile), us / 1e3)).filter(|point| point.0 <= NINES_MAX).collect(),
        name: Some(run.name.clone()),
        style: colour(place).stroke_width(2),
    });
    let label = |x: &f64| {
        let percent = 100.0 * (1.0 - 10_f64.powf(-x));
        if *x < 1e-9 { "0 %".to_owned() } else { format!("{percent:.*} %", (x.round() as usize).saturating_sub(2)) }
    };
    draw("latency by percentile", "percentile (each step: ten times fewer records above)", 1.0, &label, &lines.collect::<Vec<_>>())
}

/// p50 (thick), p99 (thin) and the highest latency (pale) of each second.
///
/// # Errors
/// The plotting crate's word.
pub fn times(runs: &[Finding]) -> Result<String, ToolFailed> {
    let mut lines = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        let line = |get: fn(&Figures) -> Option<f64>, word: &str, style: ShapeStyle| Line {
            points: thinned(run.series.iter().filter_map(|of| Some((of.start_seconds + of.seconds, get(of)? / 1e3))).collect()),
            name: Some(format!("{} {word}", run.name)),
            style,
        };
        lines.push(line(|of| of.p50, "p50", colour(place).stroke_width(3)));
        lines.push(line(|of| of.p99, "p99", colour(place).stroke_width(1)));
        lines.push(line(|of| of.max, "max", colour(place).mix(0.4).stroke_width(1)));
    }
    draw("latency of each second", "seconds", 1.0, &|x: &f64| format!("{x:.0}"), &lines)
}

/// Names that the legend has room for.
const LEGEND_MAX: usize = 12;

fn draw(caption: &str, below: &str, width_min: f64, label: &dyn Fn(&f64) -> String, lines: &[Line]) -> Result<String, ToolFailed> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&area, caption, below, width_min, label, lines).map_err(|error| ToolFailed::Internal(format!("a plot: {error}")))?;
    }
    Ok(svg)
}

fn draw_on(
    area: &Area<'_>,
    caption: &str,
    below: &str,
    width_min: f64,
    label: &dyn Fn(&f64) -> String,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let most = |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| line.points.iter().map(of)).fold(0.0, f64::max);
    let (width, height) = (most(|point| point.0).max(width_min), most(|point| point.1).max(1e-3) * 1.05);
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..width, 0.0..height)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(below).y_desc("ms").x_label_formatter(label).label_style(("sans-serif", 16)).max_light_lines(1).draw()?;
    for (place, line) in lines.iter().enumerate() {
        let (style, drawn) = (line.style, chart.draw_series(LineSeries::new(line.points.iter().copied(), line.style))?);
        if let Some(name) = line.name.as_ref().filter(|_| place < LEGEND_MAX) {
            drawn.label(name.as_str()).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style));
        }
    }
    let mut legend = chart.configure_series_labels();
    legend
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 16));
    legend.draw()?;
    area.present()?;
    Ok(())
}

fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-12).log10()
}

/// Of neighbours the highest stays: a peak is what one looks for.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    points.chunks(step).filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_counted_and_peaks_stay() {
        for (quantile, expected) in [(0.0, 0.0), (0.9, 1.0), (0.99, 2.0), (0.999, 3.0)] {
            assert!((nines(quantile) - expected).abs() < 1e-9);
        }
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|x| (f64::from(x), 1.0)).collect();
        points[7_123].1 = 99.0;
        let thin = thinned(points);
        assert!(thin.len() <= POINTS_MAX && thin.iter().any(|point| point.1 == 99.0));
    }

    #[test]
    fn a_name_is_text_in_the_plot_and_never_markup() {
        let line = Line { points: vec![(0.0, 1.0), (1.0, 2.0)], name: Some("<script>&\"".to_owned()), style: colour(0).stroke_width(2) };
        let svg = draw("a", "b", 1.0, &|x: &f64| format!("{x}"), &[line]).expect("a plot");
        assert!(svg.starts_with("<svg") && !svg.contains("<script") && svg.contains("&lt;script&gt;"), "{svg}");
        assert!(draw("nothing", "b", 1.0, &|x: &f64| format!("{x}"), &[]).is_ok());
    }
}
