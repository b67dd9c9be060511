//! A rolling upgrade: the previous release works beside the new schema, so a migration only adds (ADR 25).
//! Those up to [`BEFORE`] were written before that was so.

use std::path::Path;

/// The last migration before the rule.
const BEFORE: u32 = 6;

/// Tables that have many rows in a large installation: an index that is made on one the plain way keeps
/// PostgreSQL from writing to it meanwhile.
const LARGE: [&str; 4] = ["issued_tokens", "audit_records", "credentials", "users"];

/// The statements of a text, without comments, in capital letters and with single spaces.
fn statements(sql: &str) -> Vec<String> {
    let plain: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap()).collect();
    let all = plain.join("\n").to_uppercase();
    let tidy = all.split(';').map(|s| s.split_whitespace().collect::<Vec<_>>().join(" "));
    tidy.filter(|s| !s.is_empty()).collect()
}

/// What of a migration a running older release might not bear.
fn harm(sql: &str, on_postgres: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut made: Vec<String> = Vec::new();
    for statement in statements(sql) {
        let mut words = statement.split([' ', '(']);
        let harmless = match (words.next(), words.next()) {
            (Some("CREATE"), Some("TABLE")) => {
                made.extend(words.next().map(str::to_owned));
                true
            }
            (Some("CREATE"), Some("INDEX" | "UNIQUE")) => {
                let (_, on) = statement.split_once(" ON ").unwrap();
                let table = on.split([' ', '(']).next().unwrap();
                let is_new = made.iter().any(|t| t == table);
                let is_large = LARGE.iter().any(|t| t.eq_ignore_ascii_case(table));
                // A rule that is new is broken by who does not know it.
                let locks = on_postgres && is_large && !statement.contains("CONCURRENTLY");
                is_new || !(statement.contains("UNIQUE") || locks)
            }
            (Some("ALTER"), Some("TABLE")) => statement.split_once(" ADD ").is_some_and(|_| {
                let changes: Vec<&str> = statement.split(" ADD ").skip(1).collect();
                changes.iter().all(|change| {
                    change.starts_with("COLUMN ")
                        && (!change.contains("NOT NULL") || change.contains("DEFAULT"))
                        && ![" UNIQUE", " CHECK", " REFERENCES"].iter().any(|word| change.contains(word))
                }) && ![" DROP ", " RENAME ", " ALTER COLUMN ", " SET NOT NULL"]
                    .iter()
                    .any(|w| statement.contains(w))
            }),
            // Rows that it needs, in a table of its own; what was there is left as it is.
            (Some("INSERT"), Some("INTO")) => true,
            (Some("UPDATE"), Some("SCHEMA_WORKS_WITH")) => true,
            _ => false,
        };
        if !harmless {
            found.push(statement);
        }
    }
    found
}

#[test]
fn migrations_only_add_so_that_the_previous_release_works_on() {
    let mut seen = 0;
    for database in ["postgres", "sqlite"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let number: u32 = path.file_name().unwrap().to_str().unwrap()[..4].parse().unwrap();
            if number > BEFORE {
                let harm = harm(&std::fs::read_to_string(&path).unwrap(), database == "postgres");
                assert!(harm.is_empty(), "{}: {harm:#?}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 2, "both databases");
}

#[test]
fn what_an_older_release_does_not_bear_is_found() {
    for bad in [
        "DROP TABLE users;",
        "ALTER TABLE users RENAME COLUMN email TO mail;",
        "ALTER TABLE users DROP COLUMN name;",
        "ALTER TABLE users ADD COLUMN nick TEXT NOT NULL;",
        "ALTER TABLE users ADD COLUMN nick TEXT, ADD COLUMN x TEXT NOT NULL;",
        "ALTER TABLE users ADD COLUMN nick TEXT CHECK (nick <> '');",
        "ALTER TABLE users ADD CHECK (name <> '');",
        "ALTER TABLE users ALTER COLUMN name SET NOT NULL;",
        "CREATE INDEX x ON issued_tokens (ip);",
        "CREATE UNIQUE INDEX x ON links (user_id);",
        "UPDATE users SET name = '';",
        "DELETE FROM sessions;",
        "CREATE TRIGGER x AFTER INSERT ON users BEGIN SELECT 1; END;",
    ] {
        assert!(!harm(bad, true).is_empty(), "{bad}");
    }
    for good in [
        "-- DROP TABLE users;\nCREATE TABLE later (id BIGINT PRIMARY KEY);\nCREATE UNIQUE INDEX x ON later (id);",
        "ALTER TABLE users ADD COLUMN nick TEXT NOT NULL DEFAULT '';",
        "ALTER TABLE users\n  ADD COLUMN nick TEXT,\n  ADD COLUMN n BIGINT;",
        "CREATE INDEX CONCURRENTLY x ON issued_tokens (ip);",
        "INSERT INTO later (id) VALUES (1);",
        "UPDATE schema_works_with SET oldest = 7;",
    ] {
        assert_eq!(harm(good, true), Vec::<String>::new(), "{good}");
    }
}
