//! The client with servers that each have one fault.
#![allow(clippy::disallowed_methods, reason = "the servers block, each on a thread of its own")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use omniflow_http_client::{is_not_http, new_client, read_body, root_cause, tls_error};
use rustls::pki_types::PrivateKeyDer;
use rustls::{CertificateError, ServerConfig, ServerConnection, StreamOwned};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Serves every connection with a function, and returns the address.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().for_each(|stream| serve(stream.unwrap())));
    address
}

/// Reads what arrives first, which contains a whole request, and sends a response.
fn answer(mut stream: impl Read + Write, response: &str) {
    // A client that rejects the certificate, or has read enough, ends the connection.
    let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(response.as_bytes()));
}

/// A TLS server, and its own CA in a file.
fn tls_server(ca_file: &Path) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(ca_file, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    server(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let stream = StreamOwned::new(connection, stream);
        answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    })
}

async fn call(url: &str, ca_file: Option<&Path>) -> reqwest::Result<reqwest::Response> {
    new_client(ca_file, TIMEOUT).unwrap().get(url).timeout(TIMEOUT).send().await
}

#[tokio::test]
async fn certificates_are_checked_by_the_ca_file_or_the_public_cas() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (folder.path().join("ca.crt"), folder.path().join("other.crt"));
    let address = tls_server(&ca).replace("127.0.0.1", "localhost");
    tls_server(&other);
    let url = format!("https://{address}/");
    let response = call(&url, Some(&ca)).await.unwrap();
    assert_eq!(read_body(response, 2).await.unwrap().unwrap(), b"hi");
    // The other CA has the same name.
    for (wrong, reason) in
        [(None, CertificateError::UnknownIssuer), (Some(other.as_path()), CertificateError::BadSignature)]
    {
        let error = call(&url, wrong).await.unwrap_err();
        assert_eq!(tls_error(&error), Some(&rustls::Error::InvalidCertificate(reason)), "{error:?}");
        assert!(!is_not_http(&error));
    }
    let error = call(&url.replace("localhost", "127.0.0.1"), Some(&ca)).await.unwrap_err();
    assert!(
        matches!(
            tls_error(&error),
            Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_wrong_scheme_is_recognized_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let tls = tls_server(&folder.path().join("ca.crt"));
    let error = call(&format!("http://{tls}/"), None).await.unwrap_err();
    assert!(is_not_http(&error) && tls_error(&error).is_none(), "{error:?}");
    let plain = server(|stream| answer(stream, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"));
    let error = call(&format!("https://{plain}/"), None).await.unwrap_err();
    assert!(matches!(tls_error(&error), Some(rustls::Error::InvalidMessage(_))), "{error:?}");
}

#[tokio::test]
async fn the_root_cause_has_no_url() {
    let error = call("http://127.0.0.1:9/secret", None).await.unwrap_err();
    assert_eq!(root_cause(&error), "Connection refused (os error 111)");
    assert!(!is_not_http(&error) && tls_error(&error).is_none());
    let silent = server(|stream| thread::sleep(TIMEOUT * u32::from(stream.peer_addr().is_ok())));
    let client = new_client(None, TIMEOUT).unwrap();
    let call = client.get(format!("http://{silent}/secret")).timeout(Duration::from_millis(50));
    assert_eq!(root_cause(&call.send().await.unwrap_err()), "operation timed out");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let address = server(|stream| {
        answer(stream, "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
    });
    assert_eq!(call(&format!("http://{address}/"), None).await.unwrap().status(), 302);
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    for head in ["content-length: 8\r\n\r\n", "connection: close\r\n\r\n"] {
        let address = server(move |stream| answer(stream, &format!("HTTP/1.1 200 OK\r\n{head}12345678")));
        for (max, expected) in [(8, Some(b"12345678".to_vec())), (7, None)] {
            let response = call(&format!("http://{address}/"), None).await.unwrap();
            assert_eq!(read_body(response, max).await.unwrap(), expected, "{head} {max}");
        }
    }
}
