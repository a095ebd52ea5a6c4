//! A certificate authority for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// Writes a secret as an operator would: readable only by its owner.
pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `NAME.crt`, for localhost and 127.0.0.1 and valid until the first day of a year, and `NAME.key`.
    pub(crate) fn issue(&self, folder: &Path, name: &str, until: i32) {
        self.issue_for(folder, name, until, &["localhost", "127.0.0.1"]);
    }

    /// Like [`Self::issue`], for these hosts.
    pub(crate) fn issue_for(&self, folder: &Path, name: &str, until: i32, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a control plane");
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        write_secret(&folder.join(format!("{name}.key")), &key.serialize_pem());
    }

    /// The key of its own certificate, in PEM form.
    pub(crate) fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// Writes its own certificate.
    pub(crate) fn publish(&self, folder: &Path) -> PathBuf {
        let path = folder.join("ca.crt");
        fs::write(&path, self.0.pem()).unwrap();
        path
    }
}
