//! Draws what the engine reports: a bar or a spinner on a terminal, plain lines otherwise, always on standard error.
//!
//! Nothing is drawn for work that is over within half a second. The engine reports from any thread and often; a report
//! only notes numbers, a ticker draws them.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pyro_engine::progress::{Progress, Unit};

use crate::report::clean::one_line;
use crate::report::units;

/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);
/// How often a plain log hears of a stage that goes on.
const PLAIN_REPEAT: Duration = Duration::from_secs(15);

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ProgressChoice {
    /// Bars on a terminal, plain lines otherwise
    #[default]
    Auto,
    /// One line a phase
    Plain,
    /// Nothing
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Bars,
    Lines,
    Nothing,
}

/// Draws one piece of work. Dropping it clears what is drawn.
#[derive(Debug)]
pub(crate) struct Painter {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    canvas: Mutex<Canvas>,
    over: Condvar,
}

#[derive(Debug)]
struct Canvas {
    style: Style,
    /// Says every stage as it begins, and what each took.
    verbose: bool,
    notes: bool,
    /// Notes that were told: once is enough for a piece of work.
    told: BTreeSet<String>,
    begun: Instant,
    stage: Option<Stage>,
    bar: Option<ProgressBar>,
    over: bool,
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    unit: Unit,
    total: Option<u64>,
    done: u64,
    item: String,
    begun: Instant,
    said: Option<Instant>,
}

/// What the global flags say about progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// `--progress`.
    pub(crate) choice: ProgressChoice,
    /// `--quiet`.
    pub(crate) quiet: bool,
    /// `--verbose`, at least once.
    pub(crate) verbose: bool,
    /// The terminal cannot move its cursor.
    pub(crate) dumb: bool,
}

impl Painter {
    /// Begins a piece of work.
    pub(crate) fn new(wishes: Wishes) -> Self {
        let style = match wishes.choice {
            _ if wishes.quiet => Style::Nothing,
            ProgressChoice::None => Style::Nothing,
            ProgressChoice::Auto if std::io::stderr().is_terminal() && !wishes.dumb => Style::Bars,
            ProgressChoice::Auto | ProgressChoice::Plain => Style::Lines,
        };
        let canvas = Canvas {
            style,
            verbose: wishes.verbose,
            notes: !wishes.quiet,
            told: BTreeSet::new(),
            begun: Instant::now(),
            stage: None,
            bar: None,
            over: false,
        };
        let shared = Arc::new(Shared { canvas: Mutex::new(canvas), over: Condvar::new() });
        let ticker = (style != Style::Nothing).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.tick_until_over())
        });
        Self { shared, ticker }
    }

    /// Takes a report of the engine.
    pub(crate) fn report(&self, progress: Progress) {
        let mut canvas = self.shared.lock();
        match progress {
            Progress::Stage { name, unit, total } => canvas.begin(name, unit, total),
            Progress::Note(text) => canvas.note(&text),
            Progress::Over => canvas.end(),
            Progress::Done(done) => {
                if let Some(stage) = &mut canvas.stage {
                    stage.done = done;
                }
            }
            Progress::Item(item) => {
                if let Some(stage) = &mut canvas.stage {
                    stage.item = one_line(&item);
                }
            }
        }
    }

    /// Ends the stage and clears the line: something else writes to the terminal from now on.
    pub(crate) fn clear(&self) {
        self.shared.lock().end();
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        {
            let mut canvas = self.shared.lock();
            canvas.end();
            canvas.over = true;
        }
        self.shared.over.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // It can only have panicked, and a panic has ended the process.
            drop(ticker.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Canvas> {
        self.canvas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick_until_over(&self) {
        let mut canvas = self.lock();
        while !canvas.over {
            canvas.tick();
            canvas = self.over.wait_timeout(canvas, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Canvas {
    fn begin(&mut self, name: &'static str, unit: Unit, total: Option<u64>) {
        self.end();
        let stage = Stage { name, unit, total, done: 0, item: String::new(), begun: Instant::now(), said: None };
        self.stage = Some(stage);
        self.tick();
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(stage) = self.stage.take()
            && self.verbose
            && self.style != Style::Nothing
        {
            say(&format!("{}: {}", stage.name, units::duration(stage.begun.elapsed())));
        }
    }

    fn note(&mut self, text: &str) {
        let text = one_line(text);
        if !self.notes || !self.told.insert(text.clone()) {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&text)),
            None => say(&text),
        }
    }

    fn tick(&mut self) {
        let due = self.begun.elapsed() >= QUIET;
        let Some(stage) = &mut self.stage else { return };
        match self.style {
            Style::Nothing => {}
            Style::Lines if due && stage.said.is_none_or(|said| said.elapsed() >= PLAIN_REPEAT) => {
                stage.said = Some(Instant::now());
                say(&stage.line());
            }
            Style::Lines => {}
            Style::Bars if due => {
                let bar = self.bar.get_or_insert_with(|| stage.bar());
                bar.set_position(stage.done);
                bar.set_message(stage.item.clone());
                bar.tick();
            }
            Style::Bars => {}
        }
    }
}

impl Stage {
    fn line(&self) -> String {
        let amount = match (self.unit, self.total) {
            (Unit::None, _) => String::new(),
            (Unit::Bytes, Some(total)) if self.done == 0 => format!(" ({})", units::size(total)),
            (Unit::Packages, Some(total)) if self.done == 0 => format!(" ({total} packages)"),
            (Unit::Bytes | Unit::Packages, None) if self.done == 0 => String::new(),
            (Unit::Bytes, Some(total)) => format!(" ({} of {})", units::size(self.done), units::size(total)),
            (Unit::Bytes, None) => format!(" ({})", units::size(self.done)),
            (Unit::Packages, Some(total)) => format!(" ({} of {total} packages)", self.done),
            (Unit::Packages, None) => format!(" ({} packages)", self.done),
        };
        let item = if self.item.is_empty() { String::new() } else { format!(": {}", self.item) };
        format!("{}{amount}{item}", self.name)
    }

    fn bar(&self) -> ProgressBar {
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(self.total, target).with_prefix(self.name);
        let template = match (self.unit, self.total) {
            (Unit::Bytes, Some(_)) => "{prefix} [{bar:24}] {binary_bytes}/{binary_total_bytes} {wide_msg}",
            (Unit::Bytes, None) => "{spinner} {prefix} {binary_bytes} {wide_msg}",
            (Unit::Packages, Some(_)) => "{prefix} [{bar:24}] {pos}/{len} {wide_msg}",
            (Unit::Packages, None) => "{spinner} {prefix} {pos} {wide_msg}",
            (Unit::None, _) => "{spinner} {prefix} {elapsed} {wide_msg}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.with_style(style.progress_chars("=> "))
    }
}

/// One line to a person, marked as not being the guest's.
pub(crate) fn say(text: &str) {
    // A closed standard error means that nobody wants to know.
    drop(writeln!(std::io::stderr(), "pyro: {text}"));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pyro_engine::progress::Unit;

    use super::Stage;

    #[test]
    fn a_line_says_how_far_it_is() {
        let check = |unit, total, (done, item): (u64, &str), line: &str| {
            let begun = Instant::now();
            let stage = Stage { name: "get", unit, total, done, item: item.into(), begun, said: None };
            assert_eq!(stage.line(), line);
        };
        check(Unit::Bytes, Some(4096), (2048, "git"), "get (2.0 KiB of 4.0 KiB): git");
        check(Unit::Packages, Some(3000), (2048, ""), "get (2048 of 3000 packages)");
        check(Unit::Bytes, Some(4096), (0, ""), "get (4.0 KiB)");
        check(Unit::None, None, (0, ""), "get");
    }
}
