//! The command line of the real program.

mod keys;

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::process::{Answered, Process};

const MARIA: &str = "maria@acme.example";
const PASSWORD: &str = "tide lantern walnut orbit";
const LINE: &str = "tide lantern walnut orbit\n";

pub(crate) fn assert_refused(answered: &Answered, words: &[&str]) {
    assert_eq!(answered.code, 1, "{answered:?}");
    assert!(answered.err.starts_with("portcullis: "), "{answered:?}");
    for word in words {
        assert!(answered.err.contains(word), "{word} is not in {answered:?}");
    }
    assert_eq!(answered.out, "", "answers go to standard output, refusals do not");
}

#[test]
fn the_help_of_every_command_is_there() {
    let process = Process::new(&[]);
    for command in [
        &[][..],
        &["serve"],
        &["admin"],
        &["admin", "create"],
        &["credential"],
        &["credential", "generate"],
        &["credential", "show"],
        &["credential", "revoke"],
        &["credential", "bind-key"],
        &["keys"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["keys", "withdraw"],
        &["keys", "rewrap"],
        &["backup"],
        &["restore"],
        &["hold"],
        &["hold", "show"],
        &["hold", "begin"],
        &["hold", "lift"],
        &["audit"],
        &["audit", "verify"],
        &["config"],
        &["config", "check"],
        &["config", "print"],
        &["doctor"],
        &["openapi"],
    ] {
        let args = [command, &["--help"]].concat();
        let answered = process.run(&args, "");
        assert_eq!((answered.code, answered.err.as_str()), (0, ""), "{command:?}");
        assert!(answered.out.contains("Usage: portcullis"), "{command:?}: {}", answered.out);
    }
    assert_eq!(process.run(&["--version"], "").code, 0);
    assert_eq!(process.run(&["nonsense"], "").code, 2);
    assert_eq!(process.run(&["serve", "--nonsense=1"], "").code, 2);
    assert_eq!(process.run(&["openapi"], "").out, portcullis::api::openapi::json());
    assert!(std::fs::read_dir(process.folder()).unwrap().next().is_none(), "none of these leaves a file");
}

#[test]
fn an_unknown_setting_is_refused_by_name_from_file_environment_and_flag() {
    let process = Process::new(&[]);
    std::fs::write(process.folder().join("p.toml"), "lisen = \"127.0.0.1:1\"\n").unwrap();
    assert_refused(&process.run(&["config", "check", "--config", "p.toml"], ""), &["lisen", "file"]);
    assert_refused(&process.run(&["serve", "--config", "missing.toml"], ""), &["missing.toml"]);
    std::fs::write(process.folder().join("bad.toml"), "listen = \n").unwrap();
    assert_refused(&process.run(&["config", "check", "--config", "bad.toml"], ""), &["bad.toml"]);
    let mut command = process.command();
    command.env("PORTCULLIS_TOKEN_LIFE", "1").args(["config", "check"]);
    assert_refused(&process.run_with(&mut command, ""), &["PORTCULLIS_TOKEN_LIFE", "token_lifespan_seconds"]);
    let flag = process.run(&["config", "check", "--lisen=127.0.0.1:1"], "");
    assert_eq!(flag.code, 2);
    assert!(flag.err.contains("--lisen") && flag.err.contains("--listen"), "{flag:?}");
    let wrong = process.run(&["config", "check", "--listen=8080"], "");
    assert_refused(&wrong, &["listen", "flag", "give an address"]);
    let open = process.run(&["serve", "--listen=0.0.0.0:8080"], "");
    assert_refused(&open, &["plain HTTP is only for trying"]);
}

#[test]
fn l2_config_print_names_the_source_of_each_setting_and_masks_secrets() {
    let process = Process::new(&[]);
    std::fs::write(process.folder().join("p.toml"), "organization = \"Acme\"\n").unwrap();
    let mut command = process.command();
    command.env("PORTCULLIS_DATABASE_URL", "postgres://maria:hunter2@db.example/p?sslmode=require");
    command.env("PORTCULLIS_MASTER_KEY", "hunter2".repeat(10)).env("PORTCULLIS_CONFIG", "p.toml");
    command.args(["config", "print", "--log=warn"]);
    let printed = process.run_with(&mut command, "");
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(!printed.out.contains("hunter2") && !printed.err.contains("hunter2"), "{printed:?}");
    let table: toml::Table = printed.out.parse().expect("what is printed is a configuration");
    assert_eq!(table["organization"].as_str(), Some("Acme"));
    assert_eq!(table["log"].as_str(), Some("warn"));
    for source in ["(default)", "(file)", "(environment)", "(flag)"] {
        assert!(printed.out.contains(source), "{source}: {}", printed.out);
    }
    let good = process.run(&["config", "check"], "");
    assert_eq!((good.code, good.out.as_str()), (0, "The configuration is good.\n"));
}

#[test]
fn admin_create_says_all_that_is_wrong_at_once_and_makes_each_account_once() {
    let process = Process::new(&[]);
    let create = |email: &str, name: &str, input: &str| {
        let args = ["admin", "create", "--email", email, "--name", name, "--super-admin", "--password-stdin"];
        process.run_here(&args, input)
    };
    assert_refused(&create("maria", " ", "short\n"), &["email:", "name:", "password:", "at least 15"]);
    assert_refused(&create(MARIA, "Maria", "passwordpassword\n"), &["password:", "among the first"]);
    assert_refused(&create(MARIA, "Maria", ""), &["password:"]);
    let made = create("Maria@ACME.example", "Maria", LINE);
    assert_eq!(
        (made.code, made.out.as_str()),
        (0, "Super Admin maria@acme.example can sign in now.\n"),
        "{made:?}"
    );
    assert_refused(&create(MARIA, "Maria", LINE), &["email:", "already"]);
    let no_terminal = process.run_here(&["admin", "create", "--email", "x@y.z", "--name", "X"], "");
    assert_refused(&no_terminal, &["--password-stdin"]);
    assert_eq!(process.run(&["admin", "create", "--email", "x@y.z"], "").code, 2);
    assert_eq!(process.run_here(&["audit", "verify"], "").code, 0);
}

#[test]
fn a_credential_is_generated_shown_and_revoked_from_a_terminal() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    let url = process.url();
    let run = |act: &str, more: &[&str], input: &str| {
        let args = ["credential", act, "--server", &url, "--email", MARIA, "--password-stdin"];
        process.run(&[&args[..], more].concat(), input)
    };
    assert_refused(&run("show", &[], LINE), &["You have no credential."]);
    assert_refused(&run("revoke", &[], LINE), &["There is no credential to revoke."]);
    assert_refused(&run("generate", &[], "wrong\n"), &["The e-mail address or the password is not right."]);

    let made = run("generate", &["--json"], LINE);
    assert_eq!((made.code, made.err.as_str()), (0, ""), "{made:?}");
    let view: Value = serde_json::from_str(&made.out).unwrap();
    let id = view["client_id"].as_str().unwrap();
    assert!(view["client_secret"].as_str().unwrap().starts_with("pcs_"));
    assert_eq!(view["token_url"], format!("{url}/oauth/token"));
    assert_refused(&run("generate", &[], LINE), &["You already have an active credential."]);

    let shown = run("show", &[], LINE);
    assert!(shown.code == 0 && shown.out.contains(id) && shown.out.contains("Last used      never"), "{shown:?}");
    assert!(!shown.out.contains("pcs_"), "C-5");
    let shown: Value = serde_json::from_str(&run("show", &["--json"], LINE).out).unwrap();
    assert_eq!((&shown["standing"], &shown["client_id"]), (&"active".into(), &view["client_id"]));
    let gone = run("revoke", &[], LINE);
    assert_eq!((gone.code, gone.out), (0, format!("{id} is revoked. Its programs have stopped.\n")));

    let made = run("generate", &["--env"], LINE);
    let keys: Vec<&str> = made.out.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    assert_eq!(keys, ["PORTCULLIS_CLIENT_ID", "PORTCULLIS_CLIENT_SECRET", "PORTCULLIS_TOKEN_URL"]);
    assert_eq!(run("revoke", &["--json"], LINE).code, 0);
    let made = run("generate", &[], LINE);
    assert!(made.out.contains("Client Secret  pcs_") && made.err.contains("shown this once"), "{made:?}");
    assert_eq!(run("generate", &["--env", "--json"], LINE).code, 2);
    assert_eq!(process.terminate(), Some(0));
    assert_refused(&run2(&process, &url), &["does not answer"]);
}

#[test]
fn c14_a_key_is_made_here_and_bound_with_the_secret_once() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    let url = process.url();
    let who = ["--server", &url, "--email", MARIA, "--password-stdin"];
    let credential = |act: &str| process.run(&[&["credential", act], &who[..], &["--json"]].concat(), LINE);
    let made: Value = serde_json::from_str(&credential("generate").out).unwrap();
    let (id, secret) = (made["client_id"].as_str().unwrap(), made["client_secret"].as_str().unwrap().to_owned());
    let bind = |file: &str, more: &[&str], input: &str| {
        let args = ["credential", "bind-key", "--server", &url, "--client-id", id, "--key-file", file];
        process.run(&[&args[..], more].concat(), input)
    };
    let line = format!("{secret}\n");
    let wrong = bind("wrong.key", &["--secret-stdin"], "pcs_wrong\n");
    assert_refused(&wrong, &["The Client ID or the Client Secret is not right."]);
    assert!(!process.folder().join("wrong.key").exists(), "a key that is bound to nothing does not stay");
    assert_refused(&bind("a.key", &[], ""), &["--secret-stdin"]);
    assert_refused(&bind("no/a.key", &["--secret-stdin"], &line), &["no/a.key"]);

    let bound = bind("a.key", &["--secret-stdin", "--json"], &line);
    assert_eq!((bound.code, bound.err.as_str()), (0, ""), "{bound:?}");
    let view: Value = serde_json::from_str(&bound.out).unwrap();
    assert_eq!(view["client_id"], id);
    let file = process.folder().join("a.key");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let pem = std::fs::read_to_string(&file).unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let shown = credential("show");
    assert!(shown.out.contains(view["thumbprint"].as_str().unwrap()), "{shown:?}");
    jsonwebtoken::EncodingKey::from_ec_pem(pem.as_bytes()).expect("another library reads it");

    assert_refused(
        &bind("a.key", &["--secret-stdin"], &line),
        &["a.key is there already, and is not overwritten"],
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), pem);
    std::fs::write(process.folder().join("secret"), &line).unwrap();
    let again = bind("b.key", &["--secret-file", "secret", "--kind", "ed25519"], "");
    assert_refused(&again, &["bound to this credential already"]);
    assert!(!process.folder().join("b.key").exists());

    credential("revoke");
    let made: Value = serde_json::from_str(&credential("generate").out).unwrap();
    let mut command = process.command();
    command.env("PORTCULLIS_CLIENT_ID", made["client_id"].as_str().unwrap());
    command.env("PORTCULLIS_CLIENT_SECRET", made["client_secret"].as_str().unwrap());
    command.args(["credential", "bind-key", "--server", &url, "--key-file", "c.key", "--kind", "ed25519"]);
    let bound = process.run_with(&mut command, "");
    assert!(bound.code == 0 && bound.out.contains("Thumbprint"), "{bound:?}");
    let pem = std::fs::read(process.folder().join("c.key")).unwrap();
    jsonwebtoken::EncodingKey::from_ed_pem(&pem).expect("another library reads it");
    let far = ["credential", "bind-key", "--server", "http://access.acme.example", "--client-id", id];
    let far = process.run(&[&far[..], &["--key-file", "d.key", "--secret-stdin"]].concat(), &line);
    assert_refused(&far, &["is not https://"]);
    assert_eq!(process.terminate(), Some(0));
    let gone = process.run(
        &["credential", "bind-key", "--server", &url, "--client-id", id, "--key-file", "e.key", "--secret-stdin"],
        &line,
    );
    assert_refused(&gone, &["does not answer"]);
    assert!(!process.folder().join("e.key").exists());
}

fn run2(process: &Process, url: &str) -> Answered {
    process.run(&["credential", "show", "--server", url, "--email", MARIA, "--password-stdin"], LINE)
}

#[test]
fn a_password_is_never_sent_in_clear_to_another_machine() {
    let process = Process::new(&[]);
    for server in ["http://access.acme.example", "access.acme.example", "http://127.0.0.1.evil.example", "ftp://x"]
    {
        assert_refused(&run2(&process, server), &["is not https://"]);
    }
}

#[test]
fn the_master_key_file_is_private_and_refused_when_it_is_not() {
    let process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let key = process.data("master.key");
    for (file, mode) in [("master.key", 0o600), ("portcullis.db", 0o600), ("", 0o700)] {
        let found = process.data(file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}: {found:o}");
    }
    let kept = std::fs::read_to_string(&key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_refused(&process.run_here(&["serve"], ""), &["can be read by others (mode 640)", "chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let hex = kept.lines().last().unwrap();

    std::fs::write(&key, "nonsense\n").unwrap();
    let refused = process.run_here(&["serve"], "");
    assert_refused(&refused, &["master.key", "line 1 is not a master key"]);
    std::fs::write(&key, "0".repeat(64)).unwrap();
    assert_refused(&process.run_here(&["serve"], ""), &["was made with master key", "nothing was changed"]);
    std::fs::remove_file(&key).unwrap();
    let refused = process.run_here(&["serve"], "");
    assert_refused(&refused, &["was made with master key", "Bring the key back"]);
    assert!(!key.exists(), "no key is made for a database that has one");
    let mut command = process.command();
    command.env("PORTCULLIS_MASTER_KEY", hex).args(["audit", "verify"]).args(process.flags());
    let verified = process.run_with(&mut command, "");
    assert_eq!(verified.code, 0, "{verified:?}");
    let mut command = process.command();
    command.env("PORTCULLIS_MASTER_KEY", "canary-key").args(["serve"]).args(process.flags());
    let refused = process.run_with(&mut command, "");
    assert_refused(&refused, &["PORTCULLIS_MASTER_KEY"]);
    assert!(!refused.err.contains("canary-key"), "L-2");
}

#[test]
fn a_foreign_empty_or_damaged_database_is_refused_and_left_as_it_is() {
    let process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let file = process.data("portcullis.db");
    let good = std::fs::read(&file).unwrap();
    let mut damaged = good.clone();
    damaged[100..4096].fill(0xa5);
    for (bytes, word) in [
        (Vec::new(), "is empty"),
        (b"SQLite format 3\0".to_vec(), "is not a Portcullis database"),
        (
            b"something else entirely, and long enough to be read as a header of some file, is it not?".to_vec(),
            "is not a",
        ),
        (damaged, "is damaged"),
        (good[..good.len() / 2].to_vec(), "is damaged"),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        for args in [&["serve"][..], &["audit", "verify"]] {
            assert_refused(&process.run_here(args, ""), &["portcullis.db", word, "from a backup"]);
        }
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "it was left as it is: {word}");
    }
    std::fs::write(&file, good).unwrap();
    assert_eq!(process.run_here(&["audit", "verify"], "").code, 0);
}

#[test]
fn what_serve_would_refuse_the_check_of_the_configuration_refuses_too() {
    let process = Process::new(&[]);
    let check = |more: &[&str]| {
        let mut args = vec!["config", "check"];
        args.extend(more);
        process.run_here(&args, "")
    };
    assert_eq!(check(&[]).code, 0);
    assert_refused(&check(&["--log=a=b=c[["]), &["log ="]);
    let tls = ["--public-url=https://a.example", "--tls-certificate=none.pem", "--tls-key=none.pem"];
    assert_refused(&check(&tls), &["none.pem"]);
}

#[test]
fn a_secret_that_could_not_be_printed_is_told_to_be_revoked() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    let mut command = process.command();
    command.args([
        "credential",
        "generate",
        "--env",
        "--email",
        MARIA,
        "--password-stdin",
        "--server",
        &process.url(),
    ]);
    // A full disk, behind `> portcullis.env`.
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let lost = process.run_into(&mut command, LINE);
    assert_eq!(lost.code, 1, "{lost:?}");
    assert!(lost.err.contains("was generated, but could not be printed"), "{lost:?}");
    assert!(lost.err.contains("revoke it") && !lost.err.contains("pcs_"), "{lost:?}");
}

#[test]
fn a_second_server_on_the_same_address_says_so() {
    let mut process = Process::new(&[]);
    process.start();
    assert_refused(&process.run_here(&["serve"], ""), &["cannot listen on"]);
    let output = process.output();
    assert!(output.contains("is ready") && output.contains("Open this link once to make the first Super Admin."));
    assert!(output.contains("keep a copy apart from backups"), "{output}");
}
