//! One HTTP request, with time limits and range.

use crate::error::{Error, Result};
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use ureq::Proxy;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsConfigBuilder};

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a name to be resolved and a connection made.
    pub(super) connect: Duration,
    /// For the next bytes.
    pub(super) read: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(20), read: Duration::from_secs(30) }
    }
}

/// What went wrong with a request, as text.
#[derive(Debug)]
pub(super) enum Fault {
    /// The answer stopped; asking for the rest may help.
    Broken(String),
    /// The server has no such range; asking for the whole may help.
    NoSuchRange(String),
    /// Asking again is of no use.
    Refused(String),
}

impl Fault {
    pub(super) fn into_text(self) -> String {
        match self {
            Fault::Broken(text) | Fault::NoSuchRange(text) | Fault::Refused(text) => text,
        }
    }
}

/// Makes requests.
pub(super) struct Client {
    agent: ureq::Agent,
    has_tls: bool,
}

impl Client {
    /// A client that uses the proxy named by the usual variables (`HTTPS_PROXY` and so on) and
    /// checks certificates against Mozilla's roots, or against those in the file that
    /// `SSL_CERT_FILE` names.
    ///
    /// # Errors
    ///
    /// If that file cannot be read.
    pub(super) fn from_environment(patience: Patience) -> Result<Self> {
        let path = std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty());
        let roots = path.map(|p| roots(Path::new(&p))).transpose()?;
        Ok(Self::new(patience, Proxy::try_from_env(), roots))
    }

    /// A client with this proxy and these certificates, Mozilla's roots if none are given.
    pub(super) fn new(patience: Patience, proxy: Option<Proxy>, roots: Option<RootCerts>) -> Self {
        let (mut tls, has_tls) = with_provider(TlsConfig::builder());
        if let Some(roots) = roots {
            tls = tls.root_certs(roots);
        }
        let config = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .proxy(proxy)
            .http_status_as_error(false)
            // Without TLS a redirection to https could not be followed.
            .max_redirects(if has_tls { 10 } else { 0 })
            .user_agent(concat!("spiketrain/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.read))
            .timeout_per_read(Some(patience.read))
            .build();
        Self { agent: config.new_agent(), has_tls }
    }

    /// Asks for the bytes from `first` on of a file of `n_bytes`: the byte with which the answer
    /// begins, which is `first` or 0, and the answer.
    pub(super) fn get(
        &self,
        address: &str,
        first: u64,
        n_bytes: u64,
    ) -> Result<(u64, impl Read + use<>), Fault> {
        if !self.has_tls && address.starts_with("https") {
            let what = "https needs a newer processor than this one";
            return Err(Fault::Refused(what.into()));
        }
        let mut request = self.agent.get(address);
        if first > 0 {
            request = request.header("range", format!("bytes={first}-"));
        }
        let response = request.call().map_err(|e| Fault::Refused(e.to_string()))?;
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let (begins, total) = match response.status().as_u16() {
            200 => (0, header("content-length").and_then(|n| n.parse().ok())),
            206 => {
                let range = header("content-range").and_then(parse_range);
                let Some((begins, total)) = range.filter(|r| r.0 == first) else {
                    let range = header("content-range").unwrap_or("none");
                    let what = format!("range {range:?}, expected bytes from {first}");
                    return Err(Fault::NoSuchRange(what));
                };
                (begins, total)
            }
            416 => return Err(Fault::NoSuchRange(format!("no bytes from {first} on"))),
            status => return Err(Fault::Refused(format!("HTTP status {status}"))),
        };
        if let Some(total) = total.filter(|&n: &u64| n != n_bytes) {
            let what = format!("a file of {total} bytes, expected {n_bytes}");
            return Err(Fault::Refused(what));
        }
        Ok((begins, response.into_body().into_reader()))
    }
}

/// First byte and whole length from `bytes FIRST-LAST/LENGTH`, the latter possibly `*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let length = if length == "*" { None } else { Some(length.parse().ok()?) };
    Some((first.parse().ok()?, length))
}

/// The certificates in a PEM file.
fn roots(path: &Path) -> Result<RootCerts> {
    let pem = std::fs::read(path).map_err(|e| Error::io("reading SSL_CERT_FILE", path, e))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        let wrong = |e| {
            let path = path.display();
            Error::data(format!("SSL_CERT_FILE {path}: expected certificates: {e}")).with_source(e)
        };
        if let PemItem::Certificate(certificate) = item.map_err(wrong)? {
            certificates.push(certificate);
        }
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Adds the cryptography, if this processor has the instructions it is made of.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn with_provider(tls: TlsConfigBuilder) -> (TlsConfigBuilder, bool) {
    #[cfg(target_arch = "x86_64")]
    let has_all = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("avx2");
    #[cfg(target_arch = "aarch64")]
    let has_all = std::arch::is_aarch64_feature_detected!("neon")
        && std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    if !has_all {
        return (tls, false);
    }
    let provider = std::sync::Arc::new(rustls_graviola::default_provider());
    (tls.unversioned_rustls_crypto_provider(provider), true)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn with_provider(tls: TlsConfigBuilder) -> (TlsConfigBuilder, bool) {
    (tls, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes 10-99/100"), Some((10, Some(100))));
        assert_eq!(parse_range("bytes 0-/*"), Some((0, None)));
        for wrong in ["", "bytes", "bytes 1/2", "items 1-2/3", "bytes x-2/3", "bytes 1-2/x"] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
    }
}
