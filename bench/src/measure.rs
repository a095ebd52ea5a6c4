//! The measurements, in the order that keeps them comparable.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::load;
use crate::statistics::{Spread, quantile};
use crate::subjects::Subject;

/// The extent of the measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Pairs of each subject with bare Envoy.
    pub(crate) pairs: usize,
    /// Requests per measurement.
    pub(crate) requests: u64,
    /// Requests before the first measurement of a subject.
    pub(crate) warm_up: u64,
    /// Duration of one run at half load.
    pub(crate) half_load: Duration,
    /// Runs of each subject at half load, alternating between subjects.
    pub(crate) half_load_runs: usize,
    /// Whether the report is written to `docs/operations/benchmarks.md`.
    pub(crate) is_published: bool,
}

/// The results of a subject.
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// Its description.
    pub(crate) what: &'static str,
    /// CPU time of a request, in microseconds.
    pub(crate) cost: Spread,
    /// The difference from bare Envoy just before. `None` for bare Envoy itself.
    pub(crate) added: Option<Spread>,
    /// CPU time of a request in the control plane, in microseconds.
    pub(crate) beside: Spread,
    /// Requests per second at full load, with one worker.
    pub(crate) throughput: Spread,
    /// Latencies at half of that rate, in microseconds: p50, p99 and p99.9, each the median of the runs.
    pub(crate) latency: [f64; 3],
}

#[derive(Default)]
struct Samples {
    cost: Vec<f64>,
    added: Vec<f64>,
    beside: Vec<f64>,
    throughput: Vec<f64>,
    /// Latencies at half load: for each quantile, one element per run.
    latency: [Vec<f64>; 3],
}

// === impl Plan ===

impl Plan {
    /// The plan for the published report.
    pub(crate) fn full() -> Self {
        Self {
            pairs: 21,
            requests: 20_000,
            warm_up: 10_000,
            half_load: Duration::from_secs(4),
            half_load_runs: 7,
            is_published: true,
        }
    }

    /// A shorter plan, to see whether a change helps.
    pub(crate) fn quick() -> Self {
        Self {
            pairs: 7,
            requests: 10_000,
            warm_up: 5_000,
            half_load: Duration::from_secs(2),
            half_load_runs: 1,
            is_published: false,
        }
    }
}

/// Measures all subjects. In each round, each subject follows bare Envoy, and the order changes with each round.
pub(crate) async fn run(plan: &Plan, bare: &Subject, others: &[Subject]) -> Result<Vec<Outcome>> {
    for subject in others.iter().chain([bare]) {
        load::saturate(subject.port(), &subject.request, plan.warm_up)
            .await
            .with_context(|| subject.name.clone())?;
    }
    let mut of_bare = Samples::default();
    let mut of_others: Vec<Samples> = others.iter().map(|_| Samples::default()).collect();
    for round in 0..plan.pairs {
        for turn in 0..others.len() {
            let index = (round + turn) % others.len();
            let (Some(subject), Some(samples)) = (others.get(index), of_others.get_mut(index)) else {
                continue;
            };
            let base = of_bare.measure(plan, bare).await?;
            let cost = samples.measure(plan, subject).await?;
            samples.added.push(cost - base);
        }
    }
    // A single run is not reliable: some runs coincide with a pause of the machine.
    for _ in 0..plan.half_load_runs {
        of_bare.measure_latency(plan, bare).await?;
        for (samples, subject) in of_others.iter_mut().zip(others) {
            samples.measure_latency(plan, subject).await?;
        }
    }
    let mut outcomes = vec![of_bare.outcome(bare)?];
    for (samples, subject) in of_others.into_iter().zip(others) {
        outcomes.push(samples.outcome(subject)?);
    }
    Ok(outcomes)
}

// === impl Samples ===

impl Samples {
    /// Takes one measurement and returns the CPU time of a request.
    async fn measure(&mut self, plan: &Plan, subject: &Subject) -> Result<f64> {
        let before = subject.spent()?;
        let took = load::saturate(subject.port(), &subject.request, plan.requests)
            .await
            .with_context(|| subject.name.clone())?;
        let after = subject.spent()?;
        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / plan.requests as f64;
        let cost = per_request(after.serving.saturating_sub(before.serving));
        self.cost.push(cost);
        self.beside.push(per_request(after.beside.saturating_sub(before.beside)));
        self.throughput.push(plan.requests as f64 / took.as_secs_f64());
        Ok(cost)
    }

    /// One run at half of the maximum throughput.
    async fn measure_latency(&mut self, plan: &Plan, subject: &Subject) -> Result<()> {
        let rate = spread(&self.throughput)?.median / 2.0;
        let latencies = load::latencies(subject.port(), &subject.request, rate, plan.half_load)
            .await
            .with_context(|| subject.name.clone())?;
        for (runs, part) in self.latency.iter_mut().zip([0.5, 0.99, 0.999]) {
            runs.push(quantile(&latencies, part).context("no request at half load")?);
        }
        Ok(())
    }

    fn outcome(self, subject: &Subject) -> Result<Outcome> {
        let [half, most, nearly_all] = &self.latency;
        Ok(Outcome {
            name: subject.name.clone(),
            what: subject.what,
            cost: spread(&self.cost)?,
            added: Spread::of(&self.added),
            beside: spread(&self.beside)?,
            throughput: spread(&self.throughput)?,
            latency: [spread(half)?.median, spread(most)?.median, spread(nearly_all)?.median],
        })
    }
}

fn spread(samples: &[f64]) -> Result<Spread> {
    Spread::of(samples).context("nothing was measured")
}
