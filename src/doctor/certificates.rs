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

    fn config(folder: &std::path::Path) -> Config {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
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
        // rcgen's certificates end with the year 4095.
        let end = SystemTime::UNIX_EPOCH + DAY * 776_000;
        let now = examine(&config, SystemTime::now());
        assert_eq!((now.len(), now[0].verdict), (1, Verdict::Fine), "{now:?}");
        assert_eq!(examine(&config, end + DAY * 400)[0].verdict, Verdict::Failure);
        let end = CertificateEnd { path: "cert.pem".into(), time: end, text: "that day".to_owned() };
        for (before, verdict) in [(DAY * 13, Verdict::Warning), (DAY * 15, Verdict::Fine)] {
            assert_eq!(judge(&end, end.time - before).verdict, verdict);
        }
    }
}
