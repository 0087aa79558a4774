//! Where a figure lies on an axis.

/// An axis from zero: a bar twice as long is a figure twice as large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    largest: f64,
    width: f64,
}

impl Linear {
    /// Creates one on which the largest figure fills the width.
    pub(crate) const fn new(largest: f64, width: f64) -> Self {
        Self { largest, width }
    }

    /// Returns how long a figure's bar is.
    pub(crate) fn length(&self, value: f64) -> f64 {
        if 0.0 < self.largest { value / self.largest * self.width } else { 0.0 }
    }
}

/// An axis on which equal steps are equal factors, from one power of ten to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    least: i32,
    most: i32,
    width: f64,
}

impl Log {
    /// Creates one that has room for every figure, and for one.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>, width: f64) -> Self {
        let (mut least, mut most) = (-1, 1);
        for value in values {
            while value < power(least) && MIN < least {
                least -= 1;
            }
            while power(most) < value && most < -MIN {
                most += 1;
            }
        }
        Self { least, most, width }
    }

    /// Returns how far from its begin a figure lies: one of zero, or outside, at the end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (least, most) = (f64::from(self.least), f64::from(self.most));
        let exponent = value.max(power(self.least)).log10().min(most);
        (exponent - least) / (most - least) * self.width
    }

    /// Returns its powers of ten.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.least..=self.most).map(power)
    }
}

/// The least power of ten of an axis.
const MIN: i32 = -6;

fn power(exponent: i32) -> f64 {
    10_f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn a_bar_is_as_long_as_its_figure_is_large() {
        let scale = Linear::new(40_300_000.0, 380.0);
        assert!(is_near(scale.length(40_300_000.0), 380.0) && is_near(scale.length(0.0), 0.0));
        for value in [1.0, 59.0, 1_670_000.0, 20_150_000.0] {
            assert!(is_near(scale.length(2.0 * value), 2.0 * scale.length(value)), "{value}");
        }
        assert!(is_near(Linear::new(0.0, 380.0).length(0.0), 0.0), "all are zero");
    }

    #[test]
    fn a_larger_ratio_lies_further_and_equal_factors_are_equal_steps() {
        let scale = Log::new([0.02, 91.67], 400.0);
        let places: Vec<f64> =
            [0.01, 0.02, 0.5, 0.99, 1.0, 1.01, 3.0, 91.67, 100.0].map(|v| scale.place(v)).into();
        assert!(places.is_sorted_by(|left, right| left < right), "{places:?}");
        assert!(is_near(scale.place(1.0), 200.0), "one is in the middle of 0.01 and 100");
        let step = |from: f64| scale.place(2.0 * from) - scale.place(from);
        assert!(is_near(step(0.02), step(40.0)));
    }

    #[test]
    fn an_axis_has_room_for_every_ratio_and_an_end_for_those_without_a_place() {
        let scale = Log::new([0.004, 12.0], 100.0);
        let ticks: Vec<f64> = scale.ticks().collect();
        assert_eq!(ticks.len(), 6, "{ticks:?}");
        assert!(is_near(scale.place(0.0), 0.0) && is_near(scale.place(1e9), 100.0));
        assert_eq!(Log::new([], 100.0).ticks().count(), 3);
        assert!(Log::new([0.0, f64::INFINITY], 100.0).place(1.0).is_finite());
    }
}
