//! How sure a ratio of medians is: the percentile bootstrap.
//!
//! Both samples are drawn anew with replacement, as large as they are, each by itself; the ratio of the two medians of each draw is kept; the 2.5 % and
//! 97.5 % quantiles of all those ratios are the interval (B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; two samples:
//! chapter 8). The seed is fixed, so the same runs give the same interval.

use fastrand::Rng;

/// Draws: enough for two digits of a 95 % interval.
const DRAWS: usize = 2_000;
const SEED: u64 = 0x636f_7265_7370_616e;
/// Values of a sample that are drawn from: a run of more seconds is thinned evenly, or a comparison would take minutes.
const SAMPLE_MAX: usize = 2_000;

/// A ratio and the interval that has it with a confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
}

/// The median; none of nothing.
pub fn median(sample: &[f64]) -> Option<f64> {
    let mut sample = sample.to_vec();
    sample.sort_unstable_by(f64::total_cmp);
    let middle = sample.len() / 2;
    match sample.len() {
        0 => None,
        length if length.is_multiple_of(2) => Some(f64::midpoint(sample[middle - 1], sample[middle])),
        _ => Some(sample[middle]),
    }
}

/// The median of `b` by that of `a`. None if a sample is empty, or the median of `a` is no positive number.
pub fn ratio_of_medians(a: &[f64], b: &[f64]) -> Option<Ratio> {
    let (a, b) = (thinned(a), thinned(b));
    let divide = |b: f64, a: f64| (a > 0.0).then_some(b / a);
    let ratio = divide(median(&b)?, median(&a)?)?;
    let mut rng = Rng::with_seed(SEED);
    let mut draw = |sample: &[f64]| {
        let drawn: Vec<f64> = (0..sample.len()).map(|_| sample[rng.usize(..sample.len())]).collect();
        median(&drawn)
    };
    let mut ratios: Vec<f64> = (0..DRAWS).filter_map(|_| divide(draw(&b)?, draw(&a)?)).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |quantile: f64| ratios.get((quantile * (ratios.len().max(1) - 1) as f64).round() as usize).copied();
    Some(Ratio { ratio, low: at(0.025)?, high: at(0.975)? })
}

fn thinned(sample: &[f64]) -> Vec<f64> {
    let step = sample.len().div_ceil(SAMPLE_MAX).max(1);
    sample.iter().step_by(step).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!((median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (None, Some(2.0), Some(2.5)));
    }

    #[test]
    fn the_interval_is_the_same_each_time_and_has_the_ratio_in_it() {
        let a: Vec<f64> = (0..60).map(|number| 100.0 + f64::from(number % 7)).collect();
        let b: Vec<f64> = a.iter().map(|value| value * 2.0).collect();
        let ratio = ratio_of_medians(&a, &b).expect("a ratio");
        assert_eq!(Some(ratio), ratio_of_medians(&a, &b));
        assert!(ratio.ratio == 2.0 && ratio.low <= 2.0 && ratio.high >= 2.0 && ratio.high - ratio.low < 0.2, "{ratio:?}");
    }

    /// Of 200 pairs of samples of one kind, some 5 % have intervals without the true ratio, 1: a wrong quantile or a wrong draw has far more or none.
    #[test]
    fn the_interval_has_the_truth_about_as_often_as_it_says() {
        let mut rng = Rng::with_seed(7);
        let mut sample = || (0..25).map(|_| 10.0 + (0..12).map(|_| rng.f64()).sum::<f64>()).collect::<Vec<f64>>();
        let missed = (0..200).filter(|_| {
            let ratio = ratio_of_medians(&sample(), &sample()).expect("a ratio");
            !(ratio.low..=ratio.high).contains(&1.0)
        });
        let missed = missed.count();
        assert!((1..=24).contains(&missed), "{missed} of 200");
    }

    #[test]
    fn nothing_by_nothing_is_no_ratio_and_long_runs_are_thinned() {
        assert_eq!((ratio_of_medians(&[], &[1.0]), ratio_of_medians(&[0.0], &[1.0])), (None, None));
        assert_eq!(ratio_of_medians(&[2.0], &[1.0]), Some(Ratio { ratio: 0.5, low: 0.5, high: 0.5 }));
        assert_eq!(thinned(&vec![1.0; 100_001]).len(), 1_961);
    }
}
