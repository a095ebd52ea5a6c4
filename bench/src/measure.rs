//! The measurements, in the order that keeps them comparable.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::load;
use crate::statistics::{Spread, quantile};
use crate::subjects::Subject;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Pairs of each subject with bare Envoy.
    pub(crate) pairs: usize,
    /// Requests of one measurement.
    pub(crate) requests: u64,
    /// Requests before the first measurement of a subject.
    pub(crate) warm_up: u64,
    /// For how long requests go at half load.
    pub(crate) half_load: Duration,
    /// Whether the report is written to `docs/`.
    pub(crate) is_published: bool,
}

/// What was found out about a subject.
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// What it consists of.
    pub(crate) what: &'static str,
    /// Processor time of a request, in microseconds.
    pub(crate) cost: Spread,
    /// The same less that of bare Envoy just before. `None` for bare Envoy itself.
    pub(crate) added: Option<Spread>,
    /// Processor time of a request in the control plane, in microseconds.
    pub(crate) beside: Spread,
    /// Requests a second at full load, one worker.
    pub(crate) throughput: Spread,
    /// Latencies at half of that, in microseconds: half of the requests, 99 and 99.9 of 100 are faster.
    pub(crate) latency: [f64; 3],
}

#[derive(Default)]
struct Samples {
    cost: Vec<f64>,
    added: Vec<f64>,
    beside: Vec<f64>,
    throughput: Vec<f64>,
}

// === impl Plan ===

impl Plan {
    /// What is published.
    pub(crate) fn full() -> Self {
        Self {
            pairs: 21,
            requests: 20_000,
            warm_up: 10_000,
            half_load: Duration::from_secs(10),
            is_published: true,
        }
    }

    /// Enough to see whether a change helps.
    pub(crate) fn quick() -> Self {
        Self {
            pairs: 7,
            requests: 10_000,
            warm_up: 5_000,
            half_load: Duration::from_secs(2),
            is_published: false,
        }
    }
}

/// Measures all subjects: in each round each of them right after bare Envoy, and each round in another order.
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
    let mut outcomes = vec![of_bare.outcome(plan, bare).await?];
    for (samples, subject) in of_others.into_iter().zip(others) {
        outcomes.push(samples.outcome(plan, subject).await?);
    }
    Ok(outcomes)
}

// === impl Samples ===

impl Samples {
    /// One measurement. Gives the processor time of a request.
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

    async fn outcome(self, plan: &Plan, subject: &Subject) -> Result<Outcome> {
        let spread = |samples: &[f64]| Spread::of(samples).context("nothing was measured");
        let throughput = spread(&self.throughput)?;
        let rate = throughput.median / 2.0;
        let latencies = load::latencies(subject.port(), &subject.request, rate, plan.half_load)
            .await
            .with_context(|| subject.name.clone())?;
        let at = |part: f64| quantile(&latencies, part).context("no request at half load");
        Ok(Outcome {
            name: subject.name.clone(),
            what: subject.what,
            cost: spread(&self.cost)?,
            added: Spread::of(&self.added),
            beside: spread(&self.beside)?,
            throughput,
            latency: [at(0.5)?, at(0.99)?, at(0.999)?],
        })
    }
}
