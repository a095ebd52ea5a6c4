//! The systemd unit.

use std::fs;
use std::process::Command;

use omniflow_deploy_tests::deploy;
use omniflow_harness::paths;

/// `systemd-analyze verify` knows every directive, with the built `omf` in place of the installed one.
#[test]
fn systemd_accepts_the_unit() {
    let unit = fs::read_to_string(deploy("systemd/omf.service")).unwrap();
    let program = paths::omf().unwrap();
    assert!(unit.contains("/usr/bin/omf"));
    let verify = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("omf.service");
        fs::write(&file, text.replace("/usr/bin/omf", program.to_str().unwrap())).unwrap();
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // Other units of this machine may have problems of their own.
        text.lines().filter(|line| line.contains("omf.service")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(verify(&unit), "");
    let broken = unit.replace("[Service]", "[Service]\nNoSuchDirective=yes");
    assert!(verify(&broken).contains("NoSuchDirective"));
}

/// What `systemd-analyze security` rates, for a service that needs one directory and the network.
#[test]
fn the_unit_is_hardened() {
    let unit = fs::read_to_string(deploy("systemd/omf.service")).unwrap();
    for directive in [
        "User=omniflow",
        "StateDirectory=omniflow",
        "StateDirectoryMode=0700",
        "UMask=0077",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "CapabilityBoundingSet=",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
    ] {
        assert!(unit.lines().any(|line| line == directive), "{directive} is missing");
    }
}
