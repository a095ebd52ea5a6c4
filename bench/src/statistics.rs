//! Quantiles of repeated measurements.

/// The median and the quartiles of measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The first quartile.
    pub(crate) low: f64,
    /// The median.
    pub(crate) median: f64,
    /// The third quartile.
    pub(crate) high: f64,
}

impl Spread {
    /// Computes the spread of measurements. `None` if there are none.
    pub(crate) fn of(measurements: &[f64]) -> Option<Self> {
        let mut sorted = measurements.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| quantile(&sorted, part);
        Some(Self { low: at(0.25)?, median: at(0.5)?, high: at(0.75)? })
    }
}

/// A number with commas between groups of three digits.
pub(crate) fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The quantile of values in ascending order, with linear interpolation.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_in_threes() {
        assert_eq!(
            [0_u64, 999, 1_000, 12_345, 1_000_000].map(grouped),
            ["0", "999", "1,000", "12,345", "1,000,000"]
        );
    }

    #[test]
    fn quarters_lie_between_the_measurements() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0, 5.0]), Some(Spread { low: 2.0, median: 3.0, high: 4.0 }));
        assert_eq!(Spread::of(&[1.0, 2.0]), Some(Spread { low: 1.25, median: 1.5, high: 1.75 }));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), Some(3.0));
    }
}
