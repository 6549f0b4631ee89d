//! When the certificates of the ports end.

use std::time::{Duration, SystemTime};

use super::finding::Finding;
use crate::config::Config;
use crate::tls::{CertificateEnd, Certificates, Tickets, TlsSettings};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Automatic renewals (certbot) begin 30 days before the end: one that is this near has not been renewed.
const SOON: Duration = DAY.saturating_mul(14);

pub(super) fn examine(config: &Config, now: SystemTime) -> Vec<Finding> {
    let mut settings: Vec<TlsSettings> = config.listen.listeners.iter().filter_map(|listener| listener.tls.clone()).collect();
    let admin = config.listen.admin_tls.iter().cloned();
    settings.extend(admin.map(|files| TlsSettings { certificates: vec![files], ..TlsSettings::default() }));
    if settings.is_empty() {
        return vec![Finding::fine("certificates", "no port has TLS")];
    }
    let mut findings = Vec::new();
    for settings in &settings {
        let opened = Tickets::new().map_err(|error| error.to_string());
        match opened.and_then(|tickets| Certificates::open(settings, &tickets).map_err(|error| error.to_string())) {
            Ok(certificates) => findings.extend(certificates.ends().iter().map(|end| judge(end, now))),
            Err(error) => findings.push(Finding::of_message("certificates", &error)),
        }
    }
    findings
}

fn judge(end: &CertificateEnd, now: SystemTime) -> Finding {
    let (path, date) = (end.path.display(), &end.text);
    let remedy = "replace the file and its key: a running node takes them up within a second";
    match end.time.duration_since(now) {
        Err(_) => Finding::failure("certificates", format!("{path} has expired ({date}): clients refuse it"), remedy),
        Ok(left) if left < SOON => {
            Finding::warning("certificates", format!("{path} expires in {} days ({date})", left.as_secs() / DAY.as_secs()), remedy)
        }
        Ok(left) => Finding::fine("certificates", format!("{path} is good for {} days ({date})", left.as_secs() / DAY.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    /// The first second of 2040, in seconds since 1970.
    const END: Duration = Duration::from_secs(2_208_988_800);

    fn config(folder: &std::path::Path) -> Config {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&pair).unwrap();
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, certificate.pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        let kafka = "bootstrap.servers = \"127.0.0.1:1\"";
        let text = format!(
            "[listen]\ntls.cert = {cert:?}\ntls.key = {key:?}\n[kafka.consumer]\n{kafka}\ntopics = [\"t\"]\n[kafka.producer]\n{kafka}\n"
        );
        let file = folder.join("corespan.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file).unwrap()
    }

    #[test]
    fn the_end_of_a_certificate_is_seen_two_weeks_before() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let end = SystemTime::UNIX_EPOCH + END;
        for (now, verdict) in [(end - DAY * 15, Verdict::Fine), (end - DAY * 13, Verdict::Warning), (end + DAY, Verdict::Failure)] {
            let findings = examine(&config, now);
            assert_eq!((findings.len(), findings[0].verdict), (1, verdict), "{findings:?}");
            assert!(findings[0].finding.contains("cert.pem") && findings[0].finding.contains("2040-01-01"), "{findings:?}");
        }
    }
}
