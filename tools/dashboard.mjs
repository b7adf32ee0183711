// Writes ops/grafana/dashboard.json; with `--check` compares it. The dashboard is a list of rows of panels, and places,
// ids and everything that Grafana wants besides follow from that.
import { readFileSync, writeFileSync } from 'node:fs';

const file = 'ops/grafana/dashboard.json';

/** Gives a metric of the chosen processes. */
const of = (metric, labels = '') => `${metric}{instance=~"$instance"${labels && `, ${labels}`}}`;
const rate = (metric, by, labels) => `sum by (${by}) (rate(${of(metric, labels)}[$__rate_interval]))`;
const highest = (metric, by, labels) => `max by (${by}) (${of(metric, labels)})`;
const quantile = (q, metric, by, labels) =>
  `histogram_quantile(${q}, sum by (${[by, 'le'].filter(Boolean).join(', ')}) (rate(${of(`${metric}_bucket`, labels)}[$__rate_interval])))`;

/** A panel of lines over time. Each query is an expression and its legend. */
const lines = (title, unit, description, ...queries) => ({ type: 'timeseries', title, unit, description, queries });
const stat = (title, unit, description, ...queries) => ({ type: 'stat', title, unit, description, queries });
/** Three lines of a histogram, or one for each value of a label. */
const times = (title, description, metric, by = '', labels = '') =>
  by === ''
    ? lines(title, 's', description, ...[0.5, 0.9, 0.99].map((q) => [quantile(q, metric, '', labels), `p${q * 100}`]))
    : lines(title, 's', description, [quantile(0.9, metric, by, labels), `p90 {{${by}}}`]);

const levels = [
  ['adds', 'Adds answered', 'POST /domains that did not end with 5xx. Objective: 99.5 %'],
  ['verification', 'Verified in the interval', 'Time in which no slot of the cycle was late. Objective: 99.5 %'],
  ['owners', 'Owners told in an hour', 'Notices that were mailed within an hour. Objective: 99.5 %'],
  ['events', 'On Kafka in a second', 'Events that Kafka has acknowledged within a second. Objective: 99.9 %'],
  ['deliveries', 'Deliveries in a minute', 'Live deliveries that were first tried within a minute. Objective: 99.5 %'],
];
const good = (slo) =>
  `1 - sum_over_time(sendmux:slo_bad:rate1m{slo="${slo}"}[$__range]) / sum_over_time(sendmux:slo_all:rate1m{slo="${slo}"}[$__range])`;

const rows = [
  [
    'Service levels',
    ...levels.map(([slo, title, description]) => ({
      ...stat(title, 'percentunit', description, [good(slo), slo]),
      slo,
    })),
    {
      ...stat('Alarms', 'none', 'Alarms that fire.', [
        'count(ALERTS{alertname=~"Sendmux.+", alertstate="firing"}) or vector(0)',
        'firing',
      ]),
      isBad: true,
    },
    lines(
      'How fast budgets burn',
      'none',
      'Above 1 the budget of errors does not last for 30 days; 14.4 for an hour is an alarm.',
      ['sendmux:slo_errors:ratio_rate1h / sendmux:slo_budget', '{{slo}}, 1 hour'],
      ['sendmux:slo_errors:ratio_rate6h / sendmux:slo_budget', '{{slo}}, 6 hours'],
    ),
    {
      ...lines('Alarms over time', 'none', 'Each alarm that has fired.', [
        'max by (alertname) (ALERTS{alertname=~"Sendmux.+", alertstate="firing"})',
        '{{alertname}}',
      ]),
      type: 'state-timeline',
    },
  ],
  [
    'Gateway',
    lines('Requests', 'reqps', 'By status.', [
      rate('sendmux_http_request_duration_seconds_count', 'status'),
      '{{status}}',
    ]),
    lines('Requests that fail', 'reqps', 'With 5xx, by route.', [
      rate('sendmux_http_request_duration_seconds_count', 'method, route', 'status=~"5.."'),
      '{{method}} {{route}}',
    ]),
    times(
      'Duration of requests',
      'From the head of a request to the end of its answer.',
      'sendmux_http_request_duration_seconds',
    ),
    times(
      'Wait of an add',
      'How long POST /domains waited for its outcome.',
      'sendmux_provisioning_wait_seconds',
      'outcome',
    ),
    lines(
      'Domains',
      'none',
      'Domains of all teams, and the most that they may have.',
      [highest('sendmux_domains', ''), 'domains'],
      [highest('sendmux_domains_limit', ''), 'limit'],
    ),
    lines(
      'Refused creations, claims, expiries',
      'none',
      'An hour each. Refusals of a team are its own matter.',
      [`sum by (kind, quota) (increase(${of('sendmux_quota_refusals_total')}[1h]))`, 'refused: {{kind}}, {{quota}}'],
      [`sum by (outcome) (increase(${of('sendmux_domain_claims_total')}[1h]))`, 'claims: {{outcome}}'],
      [`sum by (step) (increase(${of('sendmux_domain_expiries_total')}[1h]))`, 'expiries: {{step}}'],
    ),
    lines('Limits counted alone', 'none', 'Times in an hour that the database did not count requests in time.', [
      `sum by (instance) (increase(${of('sendmux_rate_limit_fallbacks_total')}[1h]))`,
      '{{instance}}',
    ]),
  ],
  [
    'Provisioning and SES',
    lines('Oldest task', 's', 'How long the task that is ready longest has been ready.', [
      highest('sendmux_tasks_oldest_seconds', 'list'),
      '{{list}}',
    ]),
    lines('Tasks', 'none', 'Those that are due later included.', [highest('sendmux_tasks', 'list'), '{{list}}']),
    lines(
      'Calls of SES without success',
      'cps',
      'Refused or not answered, and throttled.',
      [rate('sendmux_ses_errors_total', 'shard, reason'), '{{shard}}: {{reason}}'],
      [rate('sendmux_ses_throttles_total', 'shard'), '{{shard}}: throttled'],
    ),
    times('Wait for a turn at SES', 'By priority.', 'sendmux_ses_wait_seconds', 'priority'),
    lines('Missed turns', 'cps', 'Turns that a process was too late for.', [
      rate('sendmux_ses_missed_turns_total', 'instance, shard'),
      '{{instance}} {{shard}}',
    ]),
    lines(
      'Identities',
      'none',
      'Of each shard: what we have put there, its capacity, and what SES lists.',
      [highest('sendmux_ses_shard_identities', 'shard'), '{{shard}}'],
      [highest('sendmux_ses_shard_capacity', 'shard'), '{{shard}}: capacity'],
      [highest('sendmux_ses_listed_identities', 'shard'), '{{shard}}: listed'],
    ),
    lines('Age of the listing', 's', 'How old the statuses of identities are at most.', [
      highest('sendmux_ses_listing_age_seconds', 'shard'),
      '{{shard}}',
    ]),
    lines(
      'Closed shards',
      'none',
      'Why a shard takes no new domains: an operator drains it, or SES refuses us or is silent.',
      [highest('sendmux_ses_shard_draining', 'shard'), '{{shard}}: draining'],
      [highest('sendmux_ses_shard_failing', 'shard'), '{{shard}}: failing'],
    ),
    lines('Refusals of counterparts', 'none', 'In five minutes, until an operator acts.', [
      `sum by (counterpart, reason) (increase(${of('sendmux_counterpart_alarms_total')}[5m]))`,
      '{{counterpart}}: {{reason}}',
    ]),
  ],
  [
    'Verification',
    lines(
      'Lateness of the cycle',
      's',
      'How long ago the longest waiting slot was due, beside a tenth of the interval.',
      [highest('sendmux_verification_slot_lag_seconds', ''), 'lag'],
      [`${highest('sendmux_verification_interval_seconds', '')} / 10`, 'a tenth of the interval'],
    ),
    lines('Looks', 'none', 'Domains that were looked at in a minute, by what it led to.', [
      `60 * ${rate('sendmux_verification_domains_total', 'outcome')}`,
      '{{outcome}}',
    ]),
    times('Duration of a look', 'At one domain.', 'sendmux_verification_look_seconds'),
    lines(
      'Resolvers that differ',
      'none',
      'Looks in a minute of which the resolvers gave different answers; and those at domains whose ownership is disputed for a cycle.',
      [`60 * sum(rate(${of('sendmux_verification_disagreements_total')}[$__rate_interval]))`, 'different answers'],
      [
        `60 * sum(rate(${of('sendmux_verification_disputed_ownership_total')}[$__rate_interval]))`,
        'disputed ownership',
      ],
    ),
    lines(
      'Slots',
      'none',
      'Closed and stopped ones in a minute; and whether slots are being stopped.',
      [`60 * sum(rate(${of('sendmux_verification_slots_total')}[$__rate_interval]))`, 'closed'],
      [`60 * ${rate('sendmux_verification_stopped_slots_total', 'reason')}`, 'stopped: {{reason}}'],
      [highest('sendmux_verification_alarm', 'reason'), 'alarm: {{reason}}'],
    ),
  ],
  [
    'Owners',
    lines('Mails', 'none', 'Mails in a minute, by what the mail server said.', [
      `60 * ${rate('sendmux_notifier_mails_total', 'outcome')}`,
      '{{outcome}}',
    ]),
    times('From an event to its notice', 'But for what a notice waits for.', 'sendmux_notifier_notice_seconds'),
    lines('Owners that could not be told', 'none', 'In an hour.', [
      `sum by (reason) (increase(${of('sendmux_notifier_alarms_total')}[1h]))`,
      '{{reason}}',
    ]),
  ],
  [
    'Events',
    lines(
      'Behind',
      'none',
      'Events that a consumer has not handled yet, and positions that event-relay has not published.',
      [highest('sendmux_events_behind', 'group'), '{{group}}'],
      [highest('sendmux_relay_behind', ''), 'event-relay'],
    ),
    lines('Handled', 'cps', 'Events whose handler has done its work.', [
      rate('sendmux_events_handled_total', 'group'),
      '{{group}}',
    ]),
    lines(
      'Retried and parked',
      'none',
      'Calls of handlers in a minute that have failed, and messages in an hour that were put aside.',
      [`60 * ${rate('sendmux_events_retried_total', 'group')}`, 'retried: {{group}}'],
      [`sum by (group) (increase(${of('sendmux_events_parked_total')}[1h]))`, 'parked: {{group}}'],
    ),
    lines('Parked messages', 'none', 'That wait for an operator.', [
      highest('sendmux_parked_messages', 'group'),
      '{{group}}',
    ]),
    lines('Published', 'cps', 'Events that Kafka has acknowledged.', [
      `sum(rate(${of('sendmux_relay_published_total')}[$__rate_interval]))`,
      'published',
    ]),
    times('From an event to Kafka', 'To the acknowledgement.', 'sendmux_relay_delay_seconds'),
    times(
      'Acknowledgement of Kafka',
      'From a send to the acknowledgement by all replicas in sync.',
      'sendmux_relay_publish_seconds',
    ),
    lines('Faults of the topic', 'none', 'Settings that lose events, or refuse some.', [
      highest('sendmux_topic_fault', 'topic, setting'),
      '{{topic}}: {{setting}}',
    ]),
    lines(
      'The seals of the log',
      'none',
      'Seals in a minute; 1 where an event is not what its hash says.',
      [`60 * sum(rate(${of('sendmux_audit_seals_total')}[$__rate_interval]))`, 'seals'],
      [highest('sendmux_audit_log_broken', ''), 'broken'],
    ),
  ],
  [
    'Webhooks',
    lines('Tries', 'cps', 'By the class of the answer.', [
      rate('sendmux_webhook_tries_total', 'lane, outcome'),
      '{{lane}}: {{outcome}}',
    ]),
    times('Duration of tries', 'By what came of them.', 'sendmux_webhook_try_seconds', 'outcome'),
    times('From the queue to the first try', 'Of endpoints that answer in time.', 'sendmux_webhook_first_try_seconds'),
    lines('Oldest due delivery', 's', 'Of endpoints that are not paused.', [
      highest('sendmux_webhook_oldest_due_seconds', 'lane'),
      '{{lane}}',
    ]),
    lines('Waiting subjects', 'none', 'Domains and mailboxes with waiting deliveries.', [
      highest('sendmux_webhook_waiting_subjects', 'lane'),
      '{{lane}}',
    ]),
    lines(
      'Load',
      'none',
      'What each process holds. 192 tries of endpoints in time are the most.',
      [`sum by (instance) (${of('sendmux_webhook_tries_under_way')})`, '{{instance}}: tries'],
      [`sum by (instance) (${of('sendmux_webhook_held_lanes')})`, '{{instance}}: lanes'],
    ),
    lines('Disabled endpoints', 'none', 'That answered 410, or failed for five days.', [
      highest('sendmux_webhooks_disabled', 'because'),
      '{{because}}',
    ]),
  ],
  [
    'Processes and the database',
    lines('Processes', 'none', 'That answer Prometheus.', ['sum by (job) (up{job=~"sendmux-.+"})', '{{job}}']),
    lines('Faults of the database', 'cps', 'Statements and connections that were refused or not answered.', [
      rate('sendmux_database_faults_total', 'database, fault'),
      '{{database}}: {{fault}}',
    ]),
    lines('Clocks', 's', 'How far the clock of a process is ahead of that of the database.', [
      of('sendmux_clock_ahead_seconds'),
      '{{instance}}',
    ]),
    lines(
      'What cannot be read',
      'none',
      'Scrapes in five minutes that left a metric out, and secrets whose file cannot be used.',
      [`sum by (metric) (increase(${of('sendmux_metric_failures_total')}[5m]))`, '{{metric}}'],
      [highest('sendmux_secret_file_fault', 'setting'), 'secret: {{setting}}'],
    ),
    lines('CPU', 'percentunit', 'Of one core.', [
      `rate(${of('process_cpu_seconds_total', 'job=~"sendmux-.+"')}[$__rate_interval])`,
      '{{job}} {{instance}}',
    ]),
    lines('Memory', 'bytes', 'Resident.', [
      of('process_resident_memory_bytes', 'job=~"sendmux-.+"'),
      '{{job}} {{instance}}',
    ]),
    lines('Event loop', 's', 'The 99th percentile of its lag.', [
      of('nodejs_eventloop_lag_p99_seconds', 'job=~"sendmux-.+"'),
      '{{job}} {{instance}}',
    ]),
  ],
];

const datasource = { type: 'prometheus', uid: '${datasource}' };
const columns = 24;
const width = { stat: 4, timeseries: 8, 'state-timeline': 12 };
const height = { stat: 4, timeseries: 8, 'state-timeline': 8 };

/** Gives the colours of a panel: a service level is red where it is missed, a count where there is any. */
const thresholds = ({ slo, isBad }) => ({
  mode: 'absolute',
  steps: isBad
    ? [
        { color: 'green', value: null },
        { color: 'red', value: 1 },
      ]
    : [
        { color: slo ? 'red' : 'green', value: null },
        ...(slo ? [{ color: 'green', value: slo === 'events' ? 0.999 : 0.995 }] : []),
      ],
});

const options = {
  stat: {
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    colorMode: 'background',
    graphMode: 'none',
  },
  timeseries: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
  'state-timeline': { showValue: 'never', legend: { displayMode: 'list', placement: 'bottom' } },
};

function panelsOf(rows) {
  const panels = [];
  let y = 0;
  for (const [title, ...inRow] of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title,
      collapsed: false,
      gridPos: { x: 0, y, w: columns, h: 1 },
      panels: [],
    });
    y += 1;
    let [x, tallest] = [0, 0];
    for (const panel of inRow) {
      const { type, title: name, unit, description, queries, slo } = panel;
      const w = title === 'Service levels' && type === 'timeseries' ? 12 : width[type];
      if (x + w > columns) [x, y, tallest] = [0, y + tallest, 0];
      panels.push({
        id: panels.length + 1,
        type,
        title: name,
        description,
        datasource,
        gridPos: { x, y, w, h: height[type] },
        fieldConfig: {
          defaults: {
            unit,
            ...(unit === 'percentunit' && slo && { decimals: 3 }),
            min: slo ? undefined : 0,
            thresholds: thresholds(panel),
          },
          overrides: [],
        },
        options: options[type],
        targets: queries.map(([expr, legendFormat], i) => ({
          refId: String.fromCharCode(65 + i),
          datasource,
          expr: expr.replaceAll(' by ()', ''),
          legendFormat,
        })),
      });
      x += w;
      tallest = Math.max(tallest, height[type]);
    }
    y += tallest;
  }
  return panels;
}

const variable = (name, label, query) => ({
  name,
  label,
  type: 'query',
  datasource,
  query: { query, refId: name },
  definition: query,
  refresh: 2,
  sort: 1,
  multi: true,
  includeAll: true,
  allValue: '.*',
  current: { text: ['All'], value: ['$__all'] },
});

const dashboard = {
  title: 'sendmux-domains',
  uid: 'sendmux-domains',
  description: 'docs/operations/alarms.md',
  tags: ['sendmux'],
  schemaVersion: 39,
  version: 1,
  editable: true,
  graphTooltip: 1,
  refresh: '30s',
  time: { from: 'now-6h', to: 'now' },
  timezone: 'browser',
  templating: {
    list: [
      { name: 'datasource', label: 'Prometheus', type: 'datasource', query: 'prometheus', refresh: 1, current: {} },
      variable('instance', 'Process', 'label_values(up{job=~"sendmux-.+"}, instance)'),
    ],
  },
  annotations: { list: [] },
  links: [],
  panels: panelsOf(rows),
};

const text = `${JSON.stringify(dashboard, null, 2)}\n`;
if (!process.argv.includes('--check')) writeFileSync(file, text);
else if (readFileSync(file, 'utf8') !== text) {
  console.error(`${file} is not what tools/dashboard.mjs makes: npm run dashboard`);
  process.exit(1);
}
