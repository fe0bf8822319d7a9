//! The report: logs in, one page out.

mod markup;
mod synthetic;

use markup::Page;
use spiketrain::event::{BarRow, Curve, Event, Figure, Histogram, LOG_VERSION, RasterPanel};
use spiketrain::{ErrorKind, report};
use std::collections::BTreeMap;
use std::path::PathBuf;
use synthetic::{Size, ncg_run, run_start};

const SMALL: Size = Size { n_epochs: 6, n_filters: 8, n_panels: 2 };

fn render(events: &[Event]) -> String {
    report::render(events).unwrap()
}

fn json(event: &Event) -> String {
    serde_json::to_string(event).unwrap()
}

fn log(events: &[Event]) -> String {
    events.iter().map(|e| json(e) + "\n").collect()
}

/// A run folder with a log of these bytes.
fn run_dir(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// A figure of every kind in which every text is `evil`.
fn figures_named(evil: &str, histogram: Histogram) -> [Figure; 5] {
    let (title, caption) = (evil.to_owned(), evil.to_owned());
    let names = vec![evil.to_owned(); 2];
    [
        Figure::Images {
            title: format!("{title} 1"),
            caption: caption.clone(),
            height: 1,
            width: 1,
            channels: 1,
            images: vec![vec![0]; 2],
            labels: names.clone(),
        },
        Figure::Raster {
            title: format!("{title} 2"),
            caption: caption.clone(),
            panels: vec![RasterPanel {
                label: title.clone(),
                n_neurons: 2,
                names: names.clone(),
                times: vec![0.5],
                neurons: vec![1],
                highlight: vec![1],
            }],
        },
        Figure::Bars {
            title: format!("{title} 3"),
            caption: caption.clone(),
            categories: names,
            rows: vec![BarRow { name: title.clone(), values: vec![1.0, 2.0] }; 2],
            y_label: title.clone(),
        },
        Figure::Lines {
            title: format!("{title} 4"),
            caption: caption.clone(),
            x_label: title.clone(),
            y_label: title.clone(),
            curves: vec![Curve { name: title.clone(), x: vec![0.0, 1.0], y: vec![0.0, 1.0] }],
        },
        Figure::Histograms { title, caption, histograms: vec![histogram] },
    ]
}

/// Figures of numbers that cannot be drawn and of pictures that are torn.
fn wild_figures(wild: &[f64]) -> [Figure; 4] {
    let x = wild.to_vec();
    [
        Figure::Lines {
            title: "lines".to_owned(),
            caption: String::new(),
            x_label: "x".to_owned(),
            y_label: "y".to_owned(),
            curves: vec![Curve { name: "c".to_owned(), x: x.clone(), y: x.clone() }],
        },
        Figure::Bars {
            title: "bars".to_owned(),
            caption: String::new(),
            categories: Vec::new(),
            rows: vec![BarRow { name: "r".to_owned(), values: x }],
            y_label: "y".to_owned(),
        },
        Figure::Raster {
            title: "raster".to_owned(),
            caption: String::new(),
            panels: vec![RasterPanel {
                label: "p".to_owned(),
                n_neurons: 2,
                names: Vec::new(),
                times: vec![f32::NAN, f32::INFINITY, 0.5, -1.0],
                neurons: vec![0, 1, 99, 1],
                highlight: vec![7],
            }],
        },
        Figure::Images {
            title: "torn".to_owned(),
            caption: String::new(),
            height: 2,
            width: usize::MAX,
            channels: 3,
            images: vec![vec![1, 2, 3]],
            labels: Vec::new(),
        },
    ]
}

#[test]
fn a_whole_run_fills_every_section() {
    let html = render(&ncg_run(&SMALL));
    let page = Page::parse(&html);
    let sections = [
        "facts",
        "learning",
        "test",
        "confusion",
        "figures",
        "inside",
        "cost",
        "latency",
        "stages",
        "recipe",
    ];
    assert_eq!(page.section_ids(), sections);
    for link in page.attributes("a", "href") {
        assert!(page.has_id(link.strip_prefix('#').unwrap()), "{link} leads nowhere");
    }
    for text in [
        "66.41",
        "test accuracy",
        "finished after 6 epochs",
        "Learned filters",
        "Balance of the competition",
        "Updates per output neuron, epoch 6",
        "spiketrain train recipe.toml --seed 7",
        "neurons_per_class = 5",
        "cat taken for dog",
    ] {
        assert!(html.contains(text), "{text:?} is missing");
    }
    assert_eq!(page.count("img"), 8);
}

#[test]
fn the_page_loads_nothing() {
    let html = render(&ncg_run(&SMALL));
    let page = Page::parse(&html);
    assert_eq!(page.count("script") + page.count("link") + page.count("iframe"), 0);
    assert!(page.attributes("img", "src").all(|src| src.starts_with("data:image/png;base64,")));
    assert!(page.attributes("image", "href").all(|uri| uri.starts_with("data:image/png;base64,")));
    assert!(!html.contains("http://") && !html.contains("https://"));
    assert!(!html.contains("url(") && !html.contains("@import"));
}

#[test]
fn pictures_speak_to_those_who_do_not_see() {
    let html = render(&ncg_run(&SMALL));
    let page = Page::parse(&html);
    assert!(page.count("svg") > 15);
    assert_eq!(page.count("desc"), page.count("svg"));
    assert_eq!(page.attributes("img", "alt").count(), page.count("img"));
    assert_eq!(page.count("caption"), page.count("table"));
}

#[test]
fn markup_in_names_stays_text() {
    let evil = "<b onmouseover='x()'>\"&";
    let mut events = vec![run_start(&[evil, "plain"])];
    let Event::RunStart { method, data, recipe, run, .. } = &mut events[0] else { unreachable!() };
    for text in [method, data, recipe, run] {
        *text = evil.to_owned();
    }
    let table = BTreeMap::from([(evil.to_owned(), 0.5)]);
    let histogram = Histogram { label: evil.to_owned(), from: 0.0, to: 1.0, counts: vec![1, 2] };
    events.push(Event::StageStart { stage: evil.to_owned() });
    events.push(Event::EpochEnd {
        closing_seconds: 0.0,
        epoch: 0,
        seconds: 1.0,
        n_samples: 1,
        train: table.clone(),
        valid: table.clone(),
        metrics: table.clone(),
        series: BTreeMap::from([
            (evil.to_owned(), vec![1.0; 9]),
            ("target_updates".to_owned(), vec![1.0; 4]),
            ("non_target_updates".to_owned(), vec![1.0; 4]),
        ]),
    });
    events.push(Event::Test {
        metrics: table,
        confusion: vec![vec![1, 1], vec![0, 1]],
        histograms: vec![histogram.clone()],
    });
    events.extend(figures_named(evil, histogram).map(|figure| Event::Figure { figure }));
    events.push(Event::Stopped { epoch: 1, reason: evil.to_owned(), seconds: 0.0 });
    let html = render(&events);
    let page = Page::parse(&html);
    assert_eq!(page.count("b"), 0);
    assert!(!html.contains("<b "));
    assert_eq!(page.attributes("*", "onmouseover").count(), 0);
    assert!(html.matches("&lt;b onmouseover").count() > 40);
}

#[test]
fn classes_that_are_never_the_answer_are_named() {
    let page = |confusion: Vec<Vec<u64>>| {
        let metrics = BTreeMap::from([("accuracy".to_owned(), 0.5)]);
        let histograms = Vec::new();
        render(&[run_start(&["left", "right"]), Event::Test { metrics, confusion, histograms }])
    };
    assert!(page(vec![vec![3, 0], vec![3, 0]]).contains("Never the answer: right."));
    assert!(!page(vec![vec![3, 0], vec![2, 1]]).contains("Never the answer"));
    assert!(!page(vec![vec![6, 0], vec![0, 0]]).contains("Never the answer"), "no samples");
}

#[test]
fn a_run_that_only_began_has_a_page() {
    let html = render(&[run_start(&[])]);
    let page = Page::parse(&html);
    assert_eq!(page.section_ids(), ["facts", "recipe"]);
    assert!(html.contains("running, interrupted or crashed after 0 of 30 epochs"));
}

#[test]
fn a_crashed_run_is_reported_up_to_its_last_whole_line() {
    let events = ncg_run(&SMALL);
    let n = events.iter().position(|e| matches!(e, Event::Checkpoint { .. })).unwrap();
    let text = log(&events[..n]);
    let cut = &text.as_bytes()[..text.len() - 40];
    let (dir, path) = run_dir(cut);
    // The cut line is the end of the sixth epoch.
    let read = report::read_log(&path).unwrap();
    assert_eq!(read.len(), n - 1);
    assert!(matches!(read[n - 2], Event::EpochStart { epoch: 5, .. }));
    let page = report::write(dir.path()).unwrap();
    assert_eq!(page, dir.path().join("report.html"));
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("crashed after 5 of 30 epochs"));
    assert!(html.contains("validation accuracy"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_stopped_run_says_why_and_a_resumed_one_goes_on() {
    let mut events = ncg_run(&SMALL);
    let n = events.iter().position(|e| matches!(e, Event::Checkpoint { .. })).unwrap();
    let last_epoch = events[n - 1].clone();
    events.truncate(n);
    events.push(Event::Stopped { epoch: 6, reason: "no progress".to_owned(), seconds: 0.0 });
    assert!(render(&events).contains("stopped early after 6 epochs: no progress"));
    events.push(Event::Resumed { epoch: 5 });
    assert!(render(&events).contains("crashed after 5 of 30 epochs"));
    events.push(last_epoch);
    events.push(Event::RunEnd { epochs: 6, seconds: 99.0 });
    let html = render(&events);
    assert!(html.contains("finished after 6 epochs") && html.contains("after epoch 5"));
}

#[test]
fn logs_that_cannot_be_read_are_refused() {
    let start = json(&run_start(&[]));
    let message = |bytes: &str| {
        let (_dir, path) = run_dir(bytes.as_bytes());
        let error = report::read_log(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checkpoint);
        let text = error.to_string();
        text.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    let version = format!("\"version\":\"{LOG_VERSION}\"");
    let major = start.replace(&version, "\"version\":\"2.0\"");
    assert_ne!(major, start);
    assert_eq!(message(&major), "the event log has version \"2.0\"; expected 1.x");
    assert_eq!(message(""), "the event log is empty; expected a run_start event");
    let late = message("{\"event\":\"run_end\",\"epochs\":1,\"seconds\":1.0}\n");
    assert_eq!(late, "line 1: expected a run_start event, found \"run_end\"");
    assert!(message(&start[..50]).starts_with("line 1: expected a run_start event, found"));
    let torn = message(&format!("{start}\n{{\"event\":\"epo\n{start}\n"));
    assert!(torn.starts_with("line 2: expected an event, found"), "{torn}");
    let mut other = run_start(&[]);
    let Event::RunStart { version, .. } = &mut other else { unreachable!() };
    version.insert(0, '9');
    assert!(report::render(&[other]).is_err());
    assert!(report::render(&[]).is_err());
    let missing = report::read_log(std::path::Path::new("no/such/log")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Checkpoint);
    assert!(missing.to_string().contains("no log no/such/log"), "{missing}");
}

#[test]
fn newer_minor_versions_are_read() {
    let mut start: serde_json::Value = serde_json::to_value(run_start(&[])).unwrap();
    start["version"] = "1.7".into();
    start["mood"] = "sunny".into();
    let end = json(&Event::RunEnd { epochs: 0, seconds: 1.0 });
    let unknown = "{\"event\":\"comet\",\"tail\":[1,2]}\n\
                   {\"event\":\"figure\",\"figure\":{\"kind\":\"hologram\"}}";
    let (_dir, path) = run_dir(format!("{start}\n{unknown}\n{end}\n").as_bytes());
    let events = report::read_log(&path).unwrap();
    assert_eq!(events.len(), 2);
    assert!(render(&events).contains("finished after 0 epochs"));
}

#[test]
fn what_is_not_a_number_does_not_break_the_page() {
    let wild = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0, 1e-310];
    let mut events = vec![run_start(&["a", "b"])];
    for (epoch, &v) in wild.iter().enumerate() {
        let table = BTreeMap::from([("accuracy".to_owned(), v), ("loss".to_owned(), 1.0 / v)]);
        events.push(Event::EpochEnd {
            closing_seconds: 0.0,
            epoch: epoch as u64,
            seconds: v,
            n_samples: 1,
            train: table.clone(),
            valid: table.clone(),
            metrics: BTreeMap::from([("all_bad".to_owned(), f64::NAN)]),
            series: BTreeMap::from([
                ("wild".to_owned(), wild.to_vec()),
                ("wider".to_owned(), wild.repeat(2)),
                ("target_updates".to_owned(), wild[..4].to_vec()),
                ("non_target_updates".to_owned(), wild[2..].to_vec()),
            ]),
        });
    }
    events.push(Event::Test {
        metrics: BTreeMap::from([("accuracy".to_owned(), f64::NAN)]),
        confusion: vec![vec![0, 0], vec![u64::MAX, u64::MAX]],
        histograms: vec![Histogram {
            label: "h".to_owned(),
            from: f64::NAN,
            to: 1.0,
            counts: vec![1],
        }],
    });
    events.extend(wild_figures(&wild).map(|figure| Event::Figure { figure }));
    let html = render(&events);
    let page = Page::parse(&html);
    for (element, attribute) in [("path", "d"), ("rect", "y"), ("rect", "height"), ("circle", "cy")]
    {
        for value in page.attributes(element, attribute) {
            assert!(!value.contains("NaN") && !value.contains("inf"), "{element}: {value}");
        }
    }
    // The log writes such values as null.
    let (_dir, path) = run_dir(log(&events[..=6]).as_bytes());
    let read = report::read_log(&path).unwrap();
    assert_eq!(read.len(), 7);
    let Event::EpochEnd { train, series, .. } = &read[2] else { panic!("an epoch") };
    assert!(train["accuracy"].is_nan() && series["wild"][1].is_nan() && series["wild"][3] > 1e308);
}

#[test]
fn a_long_run_keeps_to_a_moderate_size() {
    let html = render(&ncg_run(&Size { n_epochs: 500, n_filters: 128, n_panels: 4 }));
    Page::parse(&html);
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
}

#[test]
fn many_classes_are_a_picture_and_a_list() {
    let names: Vec<String> = (0..100).map(|i| format!("class {i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let confusion = (0..100).map(|i| (0..100).map(|j| u64::from(i == j) * 9 + 1).collect());
    let test = Event::Test {
        metrics: BTreeMap::new(),
        confusion: confusion.collect(),
        histograms: Vec::new(),
    };
    let html = render(&[run_start(&names), test]);
    let page = Page::parse(&html);
    assert_eq!(page.count("img"), 1);
    assert!(html.contains("class 99") && html.len() < 100_000);
}
