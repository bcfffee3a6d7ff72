//! The built-in page: quota per server name, without scripts or anything from elsewhere.

use serde::Serialize;
use std::fmt::{self, Write};

use crate::core::aggregate::Quota;

/// One row of `/api/v1/quota`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    server_name: &'a str,
    role: &'static str,
    full: u64,
    resumed: u64,
    failed: u64,
    /// Completed handshakes in which the client offered to resume.
    offered: u64,
    /// Resumed over completed handshakes; null where none completed.
    resumption_quota: Option<f64>,
}

impl<'a> From<&'a Quota> for Row<'a> {
    fn from(quota: &'a Quota) -> Self {
        Row {
            server_name: &quota.server_name,
            role: quota.role.as_str(),
            full: quota.full,
            resumed: quota.resumed,
            failed: quota.failed,
            offered: quota.offered,
            resumption_quota: quota.ratio(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    server_names: Vec<Row<'a>>,
}

/// `/api/v1/quota`.
pub(super) fn json(quotas: &[Quota]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Answer {
        server_names: quotas.iter().map(Row::from).collect(),
    })
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="30">
<title>Resumetry: TLS resumption on this host</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #8886; text-align: left; }
th[scope=row] { font-weight: normal; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<main>
<h1>TLS resumption on this host</h1>
<p>Resumetry watches every TLS handshake of this host. The quota is the share of completed
handshakes that resumed an earlier session.</p>
"#;

const TABLE_HEAD: &str = r#"<div class="scroll" role="region" aria-label="Quota per server name" tabindex="0">
<table>
<caption>Handshakes per server name, busiest first. <code>_none</code> is no server name,
<code>_other</code> all names that are not among the busiest.</caption>
<thead><tr>
<th scope="col">Server name</th><th scope="col">Role</th>
<th scope="col" class="number">Quota</th><th scope="col" class="number">Resumed</th>
<th scope="col" class="number">Full</th><th scope="col" class="number">Failed</th>
<th scope="col" class="number">Offered to resume</th>
</tr></thead>
<tbody>
"#;

const FOOT: &str = r#"<p><a href="/metrics">Metrics</a>, <a href="/api/v1/quota">this table as JSON</a>,
<a href="/readyz">readiness</a></p>
</main>
</body>
</html>
"#;

/// `/`: `trouble` is why the agent is not ready.
pub(super) fn html(quotas: &[Quota], trouble: Option<&str>) -> Result<String, fmt::Error> {
    let mut page = String::from(HEAD);
    if let Some(trouble) = trouble {
        writeln!(
            page,
            "<p role=\"status\"><strong>Not ready:</strong> {}</p>",
            Escaped(trouble)
        )?;
    }
    if quotas.is_empty() {
        page.push_str("<p>No handshake seen so far.</p>\n");
    } else {
        page.push_str(TABLE_HEAD);
        for quota in quotas {
            row(&mut page, quota)?;
        }
        page.push_str("</tbody>\n</table>\n</div>\n");
    }
    page.push_str(FOOT);
    Ok(page)
}

fn row(page: &mut String, quota: &Quota) -> fmt::Result {
    let name = Escaped(&quota.server_name);
    write!(
        page,
        "<tr><th scope=\"row\">{name}</th><td>{}</td>",
        quota.role.as_str()
    )?;
    match quota.ratio() {
        // Cut, not rounded: 100.0 % must mean that every one resumed.
        Some(ratio) => write!(
            page,
            "<td class=\"number\">{:.1}&nbsp;%</td>",
            (ratio * 1000.0).floor() / 10.0
        )?,
        None => page.push_str("<td class=\"number\">–</td>"),
    }
    for count in [quota.resumed, quota.full, quota.failed, quota.offered] {
        write!(page, "<td class=\"number\">{count}</td>")?;
    }
    page.push_str("</tr>\n");
    Ok(())
}

/// Text inside HTML, in elements and in quoted attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;
    use crate::core::record::Role;

    fn quota(server_name: &str, full: u64, resumed: u64) -> Quota {
        Quota {
            server_name: server_name.into(),
            role: Role::Server,
            full,
            resumed,
            failed: 0,
            offered: resumed,
        }
    }

    #[test]
    fn escapes_names_and_reasons() {
        let page = html(&[quota("<script>\"'&", 1, 0)], Some("<b>")).unwrap();
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;"));
        assert!(page.contains("&lt;b&gt;"));
        assert!(!page.contains("<script>") && !page.contains("<b>"));
    }

    #[test]
    fn almost_all_is_not_shown_as_all() {
        assert!(
            html(&[quota("a", 1, 9_999)], None)
                .unwrap()
                .contains("99.9&nbsp;%")
        );
        assert!(
            html(&[quota("a", 0, 9_999)], None)
                .unwrap()
                .contains("100.0&nbsp;%")
        );
        assert!(html(&[quota("a", 0, 0)], None).unwrap().contains("–"));
    }

    #[test]
    fn json_has_null_where_nothing_completed() {
        let answer =
            String::from_utf8(json(&[quota("a", 0, 0), quota("b", 1, 3)]).unwrap()).unwrap();
        assert!(answer.contains(r#""server_name":"a","role":"server","full":0,"resumed":0,"failed":0,"offered":0,"resumption_quota":null"#));
        assert!(answer.contains(r#""resumption_quota":0.75"#), "{answer}");
    }
}
