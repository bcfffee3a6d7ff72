//! A board as Grafana stores it (schema version 39, Grafana 10.4 and newer): the part that ours use.
//! Knows JSON, not what is shown.

use serde_json::{Value, json};

/// Version of the schema of stored boards.
const SCHEMA_VERSION: u32 = 39;
/// Grafana's grid is so wide.
const COLUMNS: u32 = 24;
/// The variable that names the data source.
const DATASOURCE: &str = "${datasource}";

pub struct Board {
    /// Part of its address, so it never changes; also its file's name.
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
}

/// A choice at the top of a board: the values of a label.
#[derive(Clone, Copy)]
pub struct Variable {
    pub label: &'static str,
    /// A metric that has the label.
    pub metric: &'static str,
    /// Whether several may be chosen, and all are at first.
    pub multiple: bool,
}

pub struct Row {
    pub title: &'static str,
    /// The row is there once for each chosen value of this variable.
    pub repeat: Option<&'static str>,
    pub panels: Vec<Panel>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    TimeSeries,
    Stacked,
    Stat,
    Table,
    BarGauge,
    Heatmap,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::TimeSeries | Self::Stacked => "timeseries",
            Self::Stat => "stat",
            Self::Table => "table",
            Self::BarGauge => "bargauge",
            Self::Heatmap => "heatmap",
        }
    }
}

#[derive(Clone, Copy)]
pub enum Thresholds {
    None,
    /// Red below the first, orange below the second, else green.
    AtLeast(f64, f64),
    /// Green, orange from the first, red from the second on.
    AtMost(f64, f64),
}

pub struct Panel {
    pub title: &'static str,
    /// What it means, and what to do.
    pub description: &'static str,
    pub kind: Kind,
    /// Grafana's name of it.
    pub unit: &'static str,
    pub thresholds: Thresholds,
    pub width: u32,
    pub queries: Vec<Query>,
    /// Healthy hosts may have nothing to show here.
    pub may_be_empty: bool,
}

pub struct Query {
    pub expression: String,
    pub legend: &'static str,
}

impl Panel {
    pub fn new(
        kind: Kind,
        title: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        Self {
            title,
            description,
            kind,
            unit,
            thresholds: Thresholds::None,
            width: if kind == Kind::Stat { 6 } else { 12 },
            queries: Vec::new(),
            may_be_empty: false,
        }
    }

    pub fn query(mut self, legend: &'static str, expression: impl Into<String>) -> Self {
        self.queries.push(Query {
            expression: expression.into(),
            legend,
        });
        self
    }

    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    pub fn width(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    pub fn may_be_empty(mut self) -> Self {
        self.may_be_empty = true;
        self
    }

    fn height(&self) -> u32 {
        if self.kind == Kind::Stat { 5 } else { 9 }
    }

    fn json(&self, id: u32, (x, y): (u32, u32)) -> Value {
        let targets: Vec<Value> = self
            .queries
            .iter()
            .zip('A'..='Z')
            .map(|(query, letter)| self.target(query, letter))
            .collect();
        json!({
            "id": id,
            "type": self.kind.name(),
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height() },
            "targets": targets,
            "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
            "options": self.options(),
            "transformations": if self.kind == Kind::Table {
                json!([{ "id": "organize", "options": { "excludeByName": { "Time": true } } }])
            } else {
                json!([])
            },
        })
    }

    fn target(&self, query: &Query, letter: char) -> Value {
        let instant = matches!(self.kind, Kind::Table | Kind::BarGauge);
        json!({
            "refId": letter.to_string(),
            "datasource": datasource(),
            "editorMode": "code",
            "expr": query.expression,
            "legendFormat": query.legend,
            "instant": instant,
            "range": !instant,
            "format": match self.kind {
                Kind::Table => "table",
                Kind::Heatmap => "heatmap",
                _ => "time_series",
            },
        })
    }

    fn defaults(&self) -> Value {
        let steps = match self.thresholds {
            Thresholds::None => json!([{ "color": "blue", "value": null }]),
            Thresholds::AtLeast(poor, good) => json!([
                { "color": "red", "value": null },
                { "color": "orange", "value": poor },
                { "color": "green", "value": good },
            ]),
            Thresholds::AtMost(poor, bad) => json!([
                { "color": "green", "value": null },
                { "color": "orange", "value": poor },
                { "color": "red", "value": bad },
            ]),
        };
        let mut defaults = json!({
            "unit": self.unit,
            "thresholds": { "mode": "absolute", "steps": steps },
            "noValue": if self.may_be_empty { "none" } else { "no data" },
        });
        if self.unit == "percentunit" && self.kind != Kind::Stacked {
            defaults["min"] = json!(0);
            defaults["max"] = json!(1);
        }
        if matches!(self.kind, Kind::TimeSeries | Kind::Stacked) {
            let stacked = self.kind == Kind::Stacked;
            defaults["custom"] = json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": if stacked { 30 } else { 5 },
                "showPoints": "never",
                "stacking": { "mode": if stacked { "normal" } else { "none" }, "group": "A" },
                "thresholdsStyle": {
                    "mode": if matches!(self.thresholds, Thresholds::None) { "off" } else { "dashed" }
                },
            });
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::TimeSeries | Kind::Stacked => json!({
                "legend": { "displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": "value", "graphMode": "area", "textMode": "auto",
            }),
            Kind::BarGauge => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "orientation": "horizontal", "displayMode": "basic",
            }),
            Kind::Table => {
                json!({ "showHeader": true, "sortBy": [{ "displayName": "Value", "desc": true }] })
            }
            Kind::Heatmap => json!({
                "calculate": false, "color": { "mode": "scheme", "scheme": "Blues" },
                "yAxis": { "unit": self.unit }, "cellGap": 1,
            }),
        }
    }
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": DATASOURCE })
}

impl Variable {
    fn json(&self) -> Value {
        let all = json!({ "text": ["All"], "value": ["$__all"] });
        json!({
            "type": "query",
            "name": self.label,
            "label": self.label.replace('_', " "),
            "datasource": datasource(),
            "query": { "query": self.definition(), "refId": "variable" },
            "refresh": 2,
            "sort": 1,
            "multi": self.multiple,
            "includeAll": self.multiple,
            "allValue": ".*",
            "current": if self.multiple { all } else { json!({}) },
        })
    }

    fn definition(&self) -> String {
        format!("label_values({}, {})", self.metric, self.label)
    }
}

impl Board {
    pub fn json(&self) -> Value {
        let source = json!({
            "type": "datasource",
            "name": "datasource",
            "label": "Prometheus",
            "query": "prometheus",
            "refresh": 1,
            "current": {},
        });
        let variables: Vec<Value> = std::iter::once(source)
            .chain(self.variables.iter().map(Variable::json))
            .collect();
        json!({
            "uid": self.uid,
            "title": format!("Resumetry / {}", self.title),
            "description": self.description,
            "tags": ["resumetry", "tls"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "1m",
            "time": { "from": "now-6h", "to": "now" },
            "timezone": "browser",
            "annotations": { "list": [] },
            "links": [{
                "type": "dashboards",
                "title": "Resumetry",
                "tags": ["resumetry"],
                "asDropdown": true,
                "includeVars": true,
                "keepTime": true,
                "targetBlank": false,
            }],
            "templating": { "list": variables },
            "panels": self.panels(),
        })
    }

    /// Rows one below the other, panels beside each other as far as there is room.
    fn panels(&self) -> Vec<Value> {
        let (mut panels, mut y) = (Vec::new(), 0);
        for row in &self.rows {
            let id = panels.len() as u32 + 1;
            let mut header = json!({
                "id": id,
                "type": "row",
                "title": row.title,
                "collapsed": false,
                "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
                "panels": [],
            });
            if let Some(variable) = row.repeat {
                header["repeat"] = json!(variable);
            }
            panels.push(header);
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, height) = (0, y + height, 0);
                }
                panels.push(panel.json(panels.len() as u32 + 1, (x, y)));
                x += panel.width;
                height = height.max(panel.height());
            }
            y += height;
        }
        panels
    }
}
