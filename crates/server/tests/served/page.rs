//! The page at `/`: who gets it, and what it tells a browser. `clients/page.py` walks through it in one.

use lossy_server::Access;

use super::start::Wanted;

#[test]
fn the_page_is_there_with_a_policy_and_its_files() {
    let server = Wanted::default().start();
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.headers.contains("content-type: text/html; charset=utf-8"), "{}", page.headers);
    let policy =
        page.headers.lines().find(|line| line.starts_with("content-security-policy: ")).expect("a policy");
    for wanted in
        ["default-src 'none'", "script-src 'self';", "connect-src 'self';", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(wanted), "{policy}");
    }
    for forbidden in ["unsafe", "http:", "https:", "*"] {
        assert!(!policy.contains(forbidden), "{policy}");
    }
    assert!(page.headers.contains("x-content-type-options: nosniff"), "{}", page.headers);
    assert!(page.headers.contains("referrer-policy: no-referrer"), "{}", page.headers);
    let script = server.get("/page/main.js");
    assert_eq!(script.status, 200);
    assert!(script.headers.contains("content-type: text/javascript"), "{}", script.headers);
    for nowhere in ["/page/", "/page/none.js", "/page/../mod.rs", "/page/vendor"] {
        assert_eq!(server.get(nowhere).status, 404, "{nowhere}");
    }
    assert_eq!(server.request("POST", "/", "", "{}").status, 405);
}

#[test]
fn the_page_needs_no_key_but_a_known_host() {
    let access = Access { keys: vec!["secret".into()], ..Access::default() };
    let server = Wanted { access, ..Wanted::default() }.start();
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.get("/page/main.js").status, 200);
    assert_eq!(server.get("/props").status, 401);
    for foreign in ["Host: evil.example\r\n", "Origin: https://evil.example\r\n"] {
        assert_eq!(server.request("GET", "/", foreign, "").status, 403, "{foreign}");
        assert_eq!(server.request("GET", "/page/main.js", foreign, "").status, 403, "{foreign}");
    }
}

#[test]
fn the_page_can_be_switched_off() {
    let access = Access { keys: vec!["secret".into()], ..Access::default() };
    let server = Wanted { access, page: false, ..Wanted::default() }.start();
    let key = "Authorization: Bearer secret\r\n";
    for path in ["/", "/page/main.js"] {
        assert_eq!(server.get(path).status, 401, "{path}");
        assert_eq!(server.request("GET", path, key, "").status, 404, "{path}");
    }
}
