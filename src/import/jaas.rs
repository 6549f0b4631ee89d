//! `sasl.jaas.config`: the class that logs in, and its options.

/// What the text says.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// PLAIN or SCRAM.
    Password { username: String, password: String },
    /// What else there is, by its name, with what to do.
    Other { module: String, advice: &'static str },
}

/// `None` if it is no such text.
pub fn parse(text: &str) -> Option<Login> {
    let mut words = words(text)?.into_iter();
    let class = words.next()?;
    let module = class.rsplit('.').next().unwrap_or_default().to_owned();
    // required, requisite, sufficient or optional
    words.next()?;
    let options: Vec<(String, String)> =
        words.map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect::<Option<_>>()?;
    let option = |name: &str| options.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let other = |advice| Some(Login::Other { module: module.clone(), advice });
    match module.as_str() {
        "ScramLoginModule" if option("tokenauth").as_deref() == Some("true") => {
            other("delegation tokens are not offered; give sasl.username and sasl.password of a user")
        }
        "PlainLoginModule" | "ScramLoginModule" => Some(Login::Password { username: option("username")?, password: option("password")? }),
        "OAuthBearerLoginModule" => other(
            "corespan fetches no tokens; have something else keep a file with the token fresh, and set sasl.mechanism = \"OAUTHBEARER\" and sasl.oauthbearer.config = \"token.path=/PATH/OF/THE/TOKEN\"; or make a user for SCRAM-SHA-512, or PLAIN over TLS, and set sasl.mechanism, sasl.username and sasl.password",
        ),
        "Krb5LoginModule" => other(
            "GSSAPI (Kerberos) is not built into corespan; make a user for SCRAM-SHA-512, or PLAIN over TLS, and set sasl.mechanism, sasl.username and sasl.password",
        ),
        _ => other("corespan runs no Java classes; set sasl.mechanism (PLAIN or SCRAM), sasl.username and sasl.password"),
    }
}

/// Words up to the semicolon; quotes keep what is between them together, and a backslash in them the next character.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quote = None;
    let mut characters = text.trim().chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', Some(_)) => word.push(characters.next()?),
            (end, Some(open)) if end == open => quote = None,
            ('"' | '\'', None) => quote = Some(character),
            (';', None) => break,
            (space, None) if space.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (other, _) => word.push(other),
        }
    }
    if quote.is_some() {
        return None;
    }
    if !word.is_empty() {
        words.push(word);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Option<(String, String)> {
        match parse(text)? {
            Login::Password { username, password } => Some((username, password)),
            Login::Other { .. } => None,
        }
    }

    #[test]
    fn user_and_password_are_found_whatever_the_quotes() {
        let both = Some(("me".to_owned(), "a \"b;=c".to_owned()));
        for text in [
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"me\" password=\"a \\\"b;=c\";",
            "org.apache.kafka.common.security.scram.ScramLoginModule  required\n password='a \"b;=c'  username=me ;",
        ] {
            assert!(password(text) == both, "{text}");
        }
    }

    #[test]
    fn other_ways_to_log_in_are_named_with_what_to_do() {
        for (text, module, advice) in [
            ("a.b.OAuthBearerLoginModule required;", "OAuthBearerLoginModule", "SCRAM"),
            ("com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;", "Krb5LoginModule", "GSSAPI"),
            ("x.ScramLoginModule required tokenauth=\"true\" username=\"a\" password=\"b\";", "ScramLoginModule", "delegation"),
            ("com.example.Mine required;", "Mine", "Java classes"),
        ] {
            let Some(Login::Other { module: found, advice: given }) = parse(text) else { panic!("{text}") };
            assert!(found == module && given.contains(advice), "{given}");
        }
    }

    #[test]
    fn what_is_no_such_text_is_none() {
        for text in ["", "PlainLoginModule", "x.PlainLoginModule required username=\"me\";", "x.PlainLoginModule required username=\"me"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
