//! Calls of a process whose environment sets a proxy. The environment is read once, so each case is a separate process:
//! this test program, with one test.
#![allow(clippy::disallowed_methods, reason = "the servers block, each on a thread of its own")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use omniflow_http_client::{new_client, root_cause};

/// The URL that a child process calls.
const URL: &str = "PROXY_TEST_URL";

/// Serves every request with this status, and returns the address.
fn server(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).unwrap();
        }
    });
    address
}

/// The output of a process that calls `url` with these variables.
fn call(url: &str, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
        child.env_remove(name);
    }
    child.args(["--exact", "child_process", "--nocapture"]).env(URL, url).envs(variables.iter().copied());
    let output = String::from_utf8(child.output().unwrap().stdout).unwrap();
    let report = output.lines().find_map(|line| line.split_once("report: "));
    report.unwrap_or_else(|| panic!("{output}")).1.to_owned()
}

#[tokio::test]
async fn child_process() {
    let Ok(url) = std::env::var(URL) else { return };
    let client = new_client(None, Duration::from_secs(10)).unwrap();
    match client.get(url).timeout(Duration::from_secs(10)).send().await {
        Ok(response) => println!("report: {}", response.status().as_u16()),
        Err(error) => println!("report: {}", root_cause(&error)),
    }
}

#[test]
fn only_receivers_elsewhere_are_called_through_the_proxy() {
    let (proxy, receiver) = (format!("http://{}", server("502 Bad Gateway")), server("200 OK"));
    let through = [("HTTP_PROXY", proxy.as_str())];
    assert_eq!(call(&format!("http://{receiver}/"), &through), "200", "its own machine");
    assert_eq!(call(&format!("http://{}/", receiver.replace("127.0.0.1", "localhost")), &through), "200");
    assert_eq!(call("http://192.0.2.1/", &through), "502");
    let except = [through[0], ("NO_PROXY", "0.0.0.0/8")];
    assert_eq!(call(&format!("http://{}/", receiver.replace("127.0.0.1", "0.0.0.0")), &except), "200");
}

#[test]
fn error_names_the_proxy_without_its_password() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = call("http://192.0.2.1/secret", &[("HTTP_PROXY", &format!("http://user:word@{free}"))]);
    assert!(report.contains(&format!("through the proxy http://{free}")), "{report}");
    assert!(!report.contains("word") && !report.contains("secret"), "{report}");
}
