const Sequencer = require('@jest/test-sequencer').default;

/** The suites that take longest, so that none of them is left to one worker while the others have nothing to do. */
const longest = [
  'pages',
  'kafka-faults',
  'provisioning',
  'two-versions',
  'restore',
  'kafka',
  'subscribe',
  'backends-ended',
  'start',
  'product-model',
  'replay',
  'judges/api',
  'alarms',
  'cli',
  'cycle',
  'cycle-kills',
  'rebuild',
  'embedded-kafka',
  'all-in-one',
  'webhooks-kills',
  'clients',
  'ses-shards',
  'database-faults',
  'apps',
  'histories',
  'kafka-publisher',
  'guide',
  'one-name',
  'event-contract',
  'real-counterparts',
  'audit',
  'openapi-contract',
  'alarm-rules',
  'traces',
  'doctor',
  'message-boundaries',
  'kafka-security',
  'kafka-transport',
  'lane-workers',
  'archiving',
  'notifier',
  'event-relay',
  'http',
  'log-encryption',
  'shared-turns',
];

/** Places the longest suites first. The order of the others is Jest's own: by the times of the last run, or by size. */
module.exports = class LongestFirst extends Sequencer {
  sort(tests) {
    return super.sort(tests).toSorted((a, b) => rankOf(a) - rankOf(b));
  }
};

function rankOf({ path }) {
  const rank = longest.findIndex((name) => path.includes(`/${name}.`));
  return rank < 0 ? longest.length : rank;
}
