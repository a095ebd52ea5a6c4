//! New anomalies for a webhook: delivered at least once, over restarts, and signed as the Standard Webhooks specification
//! requires.

mod delivery;
mod signing;

pub use self::delivery::{Webhook, WebhookError, WebhookSettings};
pub use self::signing::{ID, SIGNATURE, SecretError, SigningKey, TIMESTAMP};
