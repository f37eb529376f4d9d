//! Progress of pulls and pushes: bars on a terminal, lines elsewhere.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Printer, size};
use crate::{
    image::{ImageEvent, LayerState},
    model::Digest,
};

/// Shows events.
#[derive(Debug)]
pub struct PullProgress {
    printer: Printer,
    display: Display,
    /// What is done: pulled, or pushed.
    verb: &'static str,
    started: Instant,
    moved: BTreeMap<Digest, u64>,
}

#[derive(Debug)]
enum Display {
    /// A terminal, with a bar for each layer under way.
    Bars { all: MultiProgress, layers: BTreeMap<Digest, ProgressBar> },
    /// Something else: a line when it begins and one when it ends.
    Lines,
}

impl PullProgress {
    /// With what is said of an image that is ready, such as `pulled`.
    pub fn new(printer: Printer, verb: &'static str) -> Self {
        let bars = printer.draws();
        let display = if bars {
            // Drawing more often costs more than it shows.
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            Display::Bars { all, layers: BTreeMap::new() }
        } else {
            Display::Lines
        };
        Self { printer, display, verb, started: Instant::now(), moved: BTreeMap::new() }
    }

    /// Shows one.
    pub fn show(&mut self, event: &ImageEvent) {
        match event {
            ImageEvent::Looking(image) => self.line(image, "looking"),
            ImageEvent::Warning(text) => {
                let printer = self.printer;
                self.suspended(|| printer.warning(text));
            }
            ImageEvent::Ready { image, unchanged: true } => self.line(image, "is up to date"),
            ImageEvent::Ready { image, unchanged: false } => {
                let bytes: u64 = std::mem::take(&mut self.moved).values().sum();
                let took = self.started.elapsed();
                self.line(image, &format!("{} {} in {}", self.verb, size(bytes), seconds(took)));
            }
            ImageEvent::Layer { layer, state, .. } => {
                if let LayerState::Moving(done, _) = state {
                    self.moved.insert(layer.clone(), *done);
                }
                if *state == LayerState::Waiting {
                    self.line(layer.short(), "is being brought by somebody else, who is waited for");
                }
                self.layer(layer, *state);
            }
        }
    }

    fn layer(&mut self, layer: &Digest, state: LayerState) {
        let Display::Bars { all, layers } = &mut self.display else { return };
        match state {
            LayerState::Waiting => {}
            LayerState::Moving(done, total) => {
                let bar = layers.entry(layer.clone()).or_insert_with(|| {
                    let style = "{prefix} {bar:30} {bytes:>10} of {total_bytes} {binary_bytes_per_sec} {msg}";
                    let bar = all.add(ProgressBar::new(total));
                    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.set_prefix(layer.short().to_owned());
                    bar
                });
                bar.set_position(done);
            }
            LayerState::Unpacking => {
                if let Some(bar) = layers.get(layer) {
                    bar.set_message("unpacking");
                }
            }
            LayerState::Done | LayerState::Present => {
                if let Some(bar) = layers.remove(layer) {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn line(&mut self, image: &str, what: &str) {
        let printer = self.printer;
        self.suspended(|| printer.progress(image, what));
    }

    /// Prints something between the bars.
    fn suspended(&self, print: impl FnOnce()) {
        match &self.display {
            Display::Bars { all, .. } => all.suspend(print),
            Display::Lines => print(),
        }
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}
