//! CPUs in the kernel's way of writing them.

/// `0-3,8` as numbers.
pub fn parse_ranges(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last > 65_535 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Numbers as `0-3,8`.
pub fn cpu_ranges(cpus: &[usize]) -> String {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    cpus.dedup();
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let texts: Vec<_> =
        parts.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_as_the_kernel_does() {
        assert_eq!(parse_ranges("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_ranges(""), Some(Vec::new()));
        for wrong in ["x", "3-1", "0-99999999"] {
            assert_eq!(parse_ranges(wrong), None, "{wrong}");
        }
        assert_eq!(cpu_ranges(&[8, 0, 1, 2, 3]), "0-3,8");
        assert_eq!(cpu_ranges(&[5]), "5");
    }
}
