//! The runs as a picture: latency by percentile, and throughput over time.

use anyhow::anyhow;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::prelude::{
    BLACK, Color as _, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries, Palette,
    Palette99, PathElement, SVGBackend, WHITE,
};

use super::report::{Report, Run};

/// Size of the picture, pixels.
const SIZE: (u32, u32) = (1200, 520);
/// Points of a curve of latencies: each tenth of a decade of what is left to the maximum.
const STEPS: i32 = 40;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// SVG of a report.
///
/// # Errors
/// If the library that draws says so.
pub fn svg(report: &Report) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&root, report).map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(text)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(root: &Area<'_>, report: &Report) -> Drawn {
    root.fill(&WHITE)?;
    let load = report.to_string();
    let title = load.lines().next().unwrap_or_default();
    let body = root.titled(title, ("sans-serif", 16))?;
    let (left, right) = body.split_horizontally(SIZE.0 / 2);
    latencies(&left, &report.runs)?;
    throughput(&right, &report.runs)?;
    root.present()?;
    Ok(())
}

/// Latency (ms) by how many operations in how many were slower: 1, 10 (p90), 100 (p99), ...
fn curve(run: &Run) -> Vec<(f64, f64)> {
    let most = run.latencies.len().max(1) as f64;
    (0..=STEPS)
        .map(|step| 10f64.powf(f64::from(step) / 10.0))
        .take_while(|one_in| *one_in <= most)
        .map(|one_in| (one_in, run.ms(1.0 - 1.0 / one_in).max(0.001)))
        .collect()
}

fn percentile(one_in: f64) -> String {
    match one_in.log10().round() as i32 {
        0 => "fastest".to_owned(),
        1 => "p90".to_owned(),
        nines => {
            format!("p99{}", if nines > 2 { "." } else { "" })
                + &"9".repeat((nines - 2).max(0) as usize)
        }
    }
}

fn latencies(area: &Area<'_>, runs: &[Run]) -> Drawn {
    let curves: Vec<_> = runs.iter().map(curve).collect();
    let values = || curves.iter().flatten().map(|(_, ms)| *ms);
    let low = values().fold(f64::INFINITY, f64::min).clamp(0.001, 1_000.0);
    let high = values().fold(low * 10.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("latency by percentile, ms", ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(55)
        .build_cartesian_2d(
            (1f64..10f64.powf(f64::from(STEPS) / 10.0)).log_scale(),
            (low * 0.8..high * 1.25).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&|x| percentile(*x))
        .y_label_formatter(&|y| format!("{}", (y * 1_000.0).round() / 1_000.0))
        .light_line_style(WHITE)
        .draw()?;
    for (i, (run, curve)) in runs.iter().zip(curves).enumerate() {
        let style = Palette99::pick(i).stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve, style))?
            .label(run.target.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

fn throughput(area: &Area<'_>, runs: &[Run]) -> Drawn {
    let samples = || runs.iter().flat_map(|run| &run.samples);
    let end = samples().map(|sample| sample.at_s).fold(1.0, f64::max);
    let most = samples().map(|sample| sample.rate).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("operations a second, over seconds", ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(65)
        .build_cartesian_2d(0f64..end, 0f64..most * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (i, run) in runs.iter().enumerate() {
        let points = run.samples.iter().map(|sample| (sample.at_s, sample.rate));
        let style = Palette99::pick(i).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(run.target.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::testing::{options, run};

    /// Every element that is opened is closed, in order.
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some(at) = rest.find('<') {
            let end = rest[at..].find('>').expect("a tag ends") + at;
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.trim()), "closed in order");
            } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
                open.push(tag.split_whitespace().next().expect("a tag has a name"));
            }
        }
        assert!(open.is_empty(), "{open:?} stay open");
    }

    #[test]
    fn the_picture_names_every_target_and_is_well_formed() {
        let runs = vec![run("raftcache/smart=a:1", 5_000), run("redis=b:2", 900)];
        let svg = svg(&Report { options: options(), runs }).unwrap();
        assert!(svg.starts_with("<svg"), "{}", &svg[..80]);
        well_formed(&svg);
        for text in ["raftcache/smart", "redis", "p99", "operations a second"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.matches("<polyline").count() >= 4, "a curve of each in both");
    }

    #[test]
    fn a_run_without_an_answer_can_be_drawn() {
        let empty = Report { options: options(), runs: vec![run("redis=b:2", 0)] };
        well_formed(&svg(&empty).unwrap());
    }

    #[test]
    fn percentiles_are_named() {
        let names: Vec<String> = [1.0, 10.0, 100.0, 1e3, 1e4].map(percentile).into();
        assert_eq!(names, ["fastest", "p90", "p99", "p99.9", "p99.99"]);
    }
}
