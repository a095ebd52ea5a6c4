//! Audit batches of every format, and how the control plane processes those that can be parsed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omniflow_fuzz::server::{Principal, server};
use omniflow_policy::audit::{AuditBatch, FORMAT, MAGIC};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};

fuzz_target!(|input: &[u8]| {
    read(input);
    // Most inputs would be rejected at their first six bytes.
    if let Some((format, body)) = input.split_first() {
        let format = u16::from(*format) % (FORMAT + 2);
        read(&[MAGIC.as_slice(), &format.to_le_bytes(), body].concat());
    }
});

fn read(bytes: &[u8]) {
    let Ok(batch) = AuditBatch::decode(bytes) else { return };
    let again = AuditBatch::decode(&batch.encode());
    assert_eq!(again.as_ref(), Ok(&batch), "what was read is written and read the same");
    let (status, body) =
        server().call(Principal::Gateway, "POST", AUDIT_PATH, AUDIT_MEDIA_TYPE, bytes.to_vec());
    assert!(matches!(status, 204 | 400 | 413 | 422), "{status}: {}", String::from_utf8_lossy(&body));
}
