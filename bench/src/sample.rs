//! Figures: several samples of one thing, and what is said of them.

/// What came of one row.
pub(crate) enum Measured {
    /// It was measured.
    Figures(Figures),
    /// It cannot be measured here, and why.
    Absent(String),
    /// It went wrong, and how. The other rows stand.
    Failed(String),
}

/// Samples of one thing.
pub(crate) struct Figures {
    /// What is counted.
    pub(crate) unit: Unit,
    /// In ascending order, never empty.
    sorted: Vec<f64>,
}

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Mebibytes,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
        }
    }
}

impl Figures {
    pub(crate) fn new(unit: Unit, mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a figure needs a sample");
        samples.sort_by(f64::total_cmp);
        Self { unit, sorted: samples }
    }

    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The middle one, or the mean of the middle two.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        if self.sorted.len() % 2 == 1 {
            self.sorted[middle]
        } else {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.sorted[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Unit};

    #[track_caller]
    fn check(samples: &[f64], expected: (f64, f64, f64)) {
        let figures = Figures::new(Unit::Milliseconds, samples.to_vec());
        let found = (figures.min(), figures.median(), figures.max());
        assert!(format!("{found:?}") == format!("{expected:?}"), "{found:?}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        check(&[3.0], (3.0, 3.0, 3.0));
        check(&[9.0, 1.0, 2.0], (1.0, 2.0, 9.0));
        check(&[4.0, 1.0, 2.0, 9.0], (1.0, 3.0, 9.0));
    }
}
