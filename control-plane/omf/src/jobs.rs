//! The background jobs of a running control plane, under one supervisor.

use std::sync::Arc;

use omniflow_service::jobs::detection::run_detection;
use omniflow_service::jobs::gateway_loss::run_gateway_loss;
use omniflow_service::jobs::maintenance::run_maintenance;
use omniflow_service::jobs::repartition::run_repartition;
use omniflow_service::jobs::retention::run_retention;
use omniflow_service::jobs::sightings::run_sightings;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::composition::ControlPlane;

/// Runs jobs until it is stopped. A job that panics is logged; the others continue.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    tracker: TaskTracker,
    stop: CancellationToken,
}

// === impl Supervisor ===

impl Supervisor {
    /// Starts all jobs of a control plane.
    pub(crate) fn start(app: &Arc<ControlPlane>) -> Self {
        let supervisor = Self::default();
        supervisor.spawn("sightings", app, |app| async move {
            run_sightings(&app.fleet, &*app.store, &app.notifications).await;
        });
        supervisor.spawn("retention", app, |app| async move {
            run_retention(&*app.store, &app.notifications, &app.fleet, &app.clock, app.retention).await;
        });
        supervisor.spawn("detection", app, |app| async move {
            run_detection(&*app.store, &app.notifications, &app.clock, app.webhook.is_some()).await;
        });
        supervisor.spawn("repartition", app, |app| async move {
            run_repartition(&app.publisher, &app.notifications).await;
        });
        supervisor.spawn("store maintenance", app, |app| async move {
            run_maintenance(&*app.store, &app.notifications).await;
        });
        supervisor.spawn("gateway loss", app, |app| async move {
            run_gateway_loss(&*app.store, &app.notifications, &app.fleet).await;
        });
        supervisor.spawn_until_stopped("webhook", app, |app| async move {
            let Some(webhook) = &app.webhook else { return };
            webhook.run(app.delivery_source(), app.notifications.anomaly_committed.subscribe()).await;
        });
        supervisor.spawn_until_stopped("OTLP export", app, |app| async move {
            let Some(exporter) = &app.exporter else { return };
            exporter.run(app.delivery_source(), app.notifications.audit_committed.subscribe()).await;
        });
        supervisor.tracker.close();
        supervisor
    }

    /// Stops the jobs and waits for them. Jobs with work to finish end on the notification `stopping`.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tracker.wait().await;
    }

    /// Runs a job that ends on its own when the process stops.
    fn spawn<F, J>(&self, name: &'static str, app: &Arc<ControlPlane>, job: F)
    where
        F: FnOnce(Arc<ControlPlane>) -> J,
        J: Future<Output = ()> + Send + 'static,
    {
        let task = tokio::spawn(job(Arc::clone(app)));
        self.tracker.spawn(async move {
            if let Err(error) = task.await {
                tracing::warn!(job = name, %error, "background task ended unexpectedly");
            }
        });
    }

    /// Runs a job that can be dropped at any await point when the process stops.
    fn spawn_until_stopped<F, J>(&self, name: &'static str, app: &Arc<ControlPlane>, job: F)
    where
        F: FnOnce(Arc<ControlPlane>) -> J,
        J: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(name, app, |app| {
            let job = job(app);
            async move {
                let _ = stop.run_until_cancelled_owned(job).await;
            }
        });
    }
}
