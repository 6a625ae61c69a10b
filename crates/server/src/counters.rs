//! What `/metrics` says: llama-server's names, and those that routers and dashboards know from vLLM.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Bounds of the histograms, seconds.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0,
];

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// All counters; cheap to count with from any thread.
pub struct Counters {
    /// tokens of prompts that were read, without cached ones
    pub prompt_tokens: Twice<Counter>,
    /// seconds in which prompts were read
    pub prompt_seconds: Gauge,
    /// tokens that were generated
    pub generated_tokens: Twice<Counter>,
    /// seconds in which they were generated
    pub generated_seconds: Gauge,
    /// tokens of prompts a second, lately
    pub prompt_rate: Gauge,
    /// tokens generated a second, lately
    pub generated_rate: Gauge,
    /// passes of a request with guessed tokens
    pub drafts: Counter,
    /// tokens that were guessed and computed
    pub drafted_tokens: Counter,
    /// those of them that were right
    pub accepted_tokens: Counter,
    /// requests that run
    pub running: Twice<Gauge>,
    /// requests that wait
    pub waiting: Twice<Gauge>,
    /// forward passes
    pub rounds: Counter,
    /// share of the KV budget in use, pages of idle documents not counted
    pub cache_usage: Gauge,
    /// bytes of the KV cache in use
    pub cache_bytes: Gauge,
    /// bytes of documents that no request uses
    pub idle_bytes: Gauge,
    /// requests that gave up their pages for a while
    pub preemptions: Counter,
    /// tokens of prompts that were looked for in the cache
    pub prefix_queries: Counter,
    /// tokens of prompts that the cache had
    pub prefix_hits: Counter,
    /// from a request's arrival to its first token
    pub first_token: Histogram,
    /// between two tokens of an answer
    pub inter_token: Histogram,
    /// from a request's arrival to its last token
    pub whole: Histogram,
    finished: [(&'static str, Counter); 4],
    handle: PrometheusHandle,
}

/// One figure under two names.
pub struct Twice<T>([T; 2]);

impl Twice<Counter> {
    /// Counts.
    pub fn increment(&self, n: u64) {
        self.0.iter().for_each(|counter| counter.increment(n));
    }
}

impl Twice<Gauge> {
    /// Says what it is now.
    pub fn set(&self, value: f64) {
        self.0.iter().for_each(|gauge| gauge.set(value));
    }
}

fn counter(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) -> Counter {
    recorder.describe_counter(KeyName::from_const_str(name), None, help.into());
    recorder.register_counter(&Key::from_static_name(name), &METADATA)
}

fn gauge(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) -> Gauge {
    recorder.describe_gauge(KeyName::from_const_str(name), None, help.into());
    recorder.register_gauge(&Key::from_static_name(name), &METADATA)
}

fn seconds(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) -> Histogram {
    recorder.describe_histogram(KeyName::from_const_str(name), Some(Unit::Seconds), help.into());
    recorder.register_histogram(&Key::from_static_name(name), &METADATA)
}

impl Counters {
    /// All at zero. `page_tokens` and `n_pages` describe the cache for routers; without a budget there is no number of pages.
    pub fn new(page_tokens: usize, n_pages: Option<usize>) -> Counters {
        let builder = PrometheusBuilder::new();
        let recorder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_string()), &SECONDS)
            .map(PrometheusBuilder::build_recorder)
            .unwrap_or_else(|_| PrometheusBuilder::new().build_recorder());
        let r = &recorder;
        let finished = ["stop", "length", "abort", "error"].map(|reason| {
            let key =
                Key::from_parts("vllm:request_success_total", vec![Label::new("finished_reason", reason)]);
            (reason, r.register_counter(&key, &METADATA))
        });
        let pages = n_pages.map_or("unlimited".to_string(), |n| n.to_string());
        let labels =
            vec![Label::new("block_size", page_tokens.to_string()), Label::new("num_gpu_blocks", pages)];
        r.register_gauge(&Key::from_parts("vllm:cache_config_info", labels), &METADATA).set(1.0);
        Counters {
            prompt_tokens: Twice([
                counter(r, "llamacpp:prompt_tokens_total", "Tokens of prompts that were read."),
                counter(r, "vllm:prompt_tokens_total", "Tokens of prompts that were read."),
            ]),
            prompt_seconds: gauge(r, "llamacpp:prompt_seconds_total", "Seconds in which prompts were read."),
            generated_tokens: Twice([
                counter(r, "llamacpp:tokens_predicted_total", "Tokens that were generated."),
                counter(r, "vllm:generation_tokens_total", "Tokens that were generated."),
            ]),
            generated_seconds: gauge(
                r,
                "llamacpp:tokens_predicted_seconds_total",
                "Seconds in which tokens were generated.",
            ),
            prompt_rate: gauge(r, "llamacpp:prompt_tokens_seconds", "Tokens of the last prompt a second."),
            generated_rate: gauge(
                r,
                "llamacpp:predicted_tokens_seconds",
                "Tokens of the last answer a second.",
            ),
            drafts: counter(
                r,
                "vllm:spec_decode_num_drafts_total",
                "Passes of a request with guessed tokens.",
            ),
            drafted_tokens: counter(
                r,
                "vllm:spec_decode_num_draft_tokens_total",
                "Tokens that were guessed and computed.",
            ),
            accepted_tokens: counter(
                r,
                "vllm:spec_decode_num_accepted_tokens_total",
                "Guessed tokens that were right.",
            ),
            running: Twice([
                gauge(r, "llamacpp:requests_processing", "Requests that run."),
                gauge(r, "vllm:num_requests_running", "Requests that run."),
            ]),
            waiting: Twice([
                gauge(r, "llamacpp:requests_deferred", "Requests that wait."),
                gauge(r, "vllm:num_requests_waiting", "Requests that wait."),
            ]),
            rounds: counter(r, "llamacpp:n_decode_total", "Forward passes."),
            cache_usage: gauge(
                r,
                "vllm:kv_cache_usage_perc",
                "Share of the KV budget that requests use, 0 to 1.",
            ),
            cache_bytes: gauge(r, "lossy:kv_cache_bytes", "Bytes of the KV cache, idle documents included."),
            idle_bytes: gauge(r, "lossy:kv_cache_idle_bytes", "Bytes of documents that no request uses."),
            preemptions: counter(
                r,
                "vllm:num_preemptions_total",
                "Requests that gave up their pages for a while.",
            ),
            prefix_queries: counter(
                r,
                "vllm:prefix_cache_queries_total",
                "Tokens of prompts that were looked for in the cache.",
            ),
            prefix_hits: counter(r, "vllm:prefix_cache_hits_total", "Tokens of prompts that the cache had."),
            first_token: seconds(
                r,
                "vllm:time_to_first_token_seconds",
                "From a request's arrival to its first token.",
            ),
            inter_token: seconds(r, "vllm:inter_token_latency_seconds", "Between two tokens of an answer."),
            whole: seconds(
                r,
                "vllm:e2e_request_latency_seconds",
                "From a request's arrival to its last token.",
            ),
            finished,
            handle: recorder.handle(),
        }
    }

    /// Counts a request that ended: `stop`, `length`, `abort` or `error`.
    pub fn finish(&self, reason: &str) {
        if let Some((_, counter)) = self.finished.iter().find(|(name, _)| *name == reason) {
            counter.increment(1);
        }
    }

    /// The page as Prometheus reads it.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_and_routers_find_their_names() {
        let counters = Counters::new(128, Some(7));
        counters.prompt_tokens.increment(5);
        counters.waiting.set(2.0);
        counters.drafted_tokens.increment(7);
        counters.accepted_tokens.increment(4);
        counters.first_token.record(0.2);
        counters.finish("length");
        let text = counters.render();
        for line in [
            "llamacpp:prompt_tokens_total 5",
            "vllm:prompt_tokens_total 5",
            "vllm:num_requests_waiting 2",
            "vllm:spec_decode_num_draft_tokens_total 7",
            "vllm:spec_decode_num_accepted_tokens_total 4",
            "vllm:request_success_total{finished_reason=\"length\"} 1",
            "vllm:cache_config_info{block_size=\"128\",num_gpu_blocks=\"7\"} 1",
            "vllm:time_to_first_token_seconds_count 1",
            "vllm:time_to_first_token_seconds_bucket{le=\"0.25\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
