//! Dashboards of Grafana, as JSON that it imports.

use serde_json::{Value, json};

/// The columns of a dashboard.
const WIDTH: u32 = 24;

/// The columns and rows of a panel.
const PANEL: (u32, u32) = (8, 7);

/// The variable that stands for the data source.
const SOURCE: &str = "${source}";

/// How a panel shows its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Picture {
    /// Lines over time.
    Lines,
    /// One number, coloured from these two values on: first yellow, then red.
    Number(Option<(f64, f64)>),
    /// The distribution over time, of buckets by `le`.
    Heat,
}

/// One query of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The query.
    pub query: &'static str,
    /// What its series are called; `{{label}}` stands for a label's value.
    pub legend: &'static str,
}

/// One panel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// The unit as Grafana calls it, as in `s`, `ops`, `bytes`, `short`.
    pub unit: &'static str,
    /// How it shows its values.
    pub picture: Picture,
    /// Its queries.
    pub targets: &'static [Target],
}

impl Panel {
    /// Creates a panel of lines.
    pub const fn lines(
        title: &'static str,
        unit: &'static str,
        targets: &'static [Target],
    ) -> Self {
        Self { title, unit, picture: Picture::Lines, targets }
    }

    /// Creates a panel of one number; `colours` says from where it is yellow and red.
    pub const fn number(
        title: &'static str,
        unit: &'static str,
        colours: Option<(f64, f64)>,
        targets: &'static [Target],
    ) -> Self {
        Self { title, unit, picture: Picture::Number(colours), targets }
    }

    /// Creates a panel of a distribution over time.
    pub const fn heat(title: &'static str, targets: &'static [Target]) -> Self {
        Self { title, unit: "s", picture: Picture::Heat, targets }
    }

    fn json(&self, number: u32) -> Value {
        let (width, height) = PANEL;
        let columns = WIDTH / width;
        let place = json!({
            "x": number % columns * width, "y": number / columns * height, "w": width, "h": height,
        });
        let (kind, format) = match self.picture {
            Picture::Lines => ("timeseries", "time_series"),
            Picture::Number(_) => ("stat", "time_series"),
            Picture::Heat => ("heatmap", "heatmap"),
        };
        let target = |(target, name): (&Target, char)| {
            json!({
                "datasource": {"type": "prometheus", "uid": SOURCE},
                "expr": target.query, "legendFormat": target.legend,
                "format": format, "refId": name.to_string(),
            })
        };
        json!({
            "id": number + 1, "title": self.title, "type": kind, "gridPos": place,
            "datasource": {"type": "prometheus", "uid": SOURCE},
            "fieldConfig": {"defaults": {"unit": self.unit, "thresholds": self.colours()}, "overrides": []},
            "options": self.options(),
            "targets": self.targets.iter().zip('A'..='Z').map(target).collect::<Vec<_>>(),
        })
    }

    fn colours(&self) -> Value {
        let mut steps = vec![json!({"color": "green", "value": null})];
        if let Picture::Number(Some((yellow, red))) = self.picture {
            steps.push(json!({"color": "yellow", "value": yellow}));
            steps.push(json!({"color": "red", "value": red}));
        }
        json!({"mode": "absolute", "steps": steps})
    }

    fn options(&self) -> Value {
        match self.picture {
            Picture::Lines => json!({"tooltip": {"mode": "multi"}}),
            Picture::Number(_) => json!({"reduceOptions": {"calcs": ["lastNotNull"]}}),
            Picture::Heat => json!({"calculate": false, "yAxis": {"unit": self.unit}}),
        }
    }
}

/// A dashboard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dashboard {
    /// Its short name, for its address and its file.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// How often it is drawn anew, as in `10s`.
    pub refresh: &'static str,
    /// Its panels, row by row.
    pub panels: &'static [Panel],
}

impl Dashboard {
    /// Returns every query.
    pub fn queries(&self) -> impl Iterator<Item = &'static str> {
        self.panels.iter().flat_map(|panel| panel.targets).map(|target| target.query)
    }

    /// Writes the dashboard as JSON.
    pub fn json(&self) -> Value {
        let panels = self.panels.iter().zip(0..).map(|(panel, number)| panel.json(number));
        json!({
            "uid": self.name, "title": self.title, "refresh": self.refresh,
            "schemaVersion": 39, "version": 1, "editable": true, "tags": ["generated"],
            "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": [{
                "name": "source", "label": "Data source", "type": "datasource", "query": "prometheus",
            }]},
            "panels": panels.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Target] = &[Target { query: "up", legend: "{{instance}}" }];
    const PANELS: &[Panel] = &[
        Panel::lines("A", "ops", ALL),
        Panel::number("B", "short", Some((1.0, 2.0)), ALL),
        Panel::heat("C", ALL),
        Panel::number("D", "short", None, ALL),
    ];

    #[test]
    fn panels_stand_in_rows_of_three_and_each_has_its_source() {
        let board = Dashboard { name: "x", title: "X", refresh: "5s", panels: PANELS };
        assert_eq!(board.queries().count(), 4);
        let json = board.json();
        let places: Vec<_> = json["panels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|panel| {
                let place = &panel["gridPos"];
                (place["x"].as_u64().unwrap(), place["y"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(places, [(0, 0), (8, 0), (16, 0), (0, 7)]);
        let kinds: Vec<_> = (0..4).map(|n| json["panels"][n]["type"].clone()).collect();
        assert_eq!(kinds, ["timeseries", "stat", "heatmap", "stat"]);
        assert_eq!(
            json["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["steps"][2]["value"],
            2.0
        );
        assert_eq!(json["panels"][0]["targets"][0]["datasource"]["uid"], "${source}");
    }
}
