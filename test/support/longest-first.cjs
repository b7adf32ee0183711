const Sequencer = require('@jest/test-sequencer').default;

/** The suites that take longest, so that none of them is left to one worker while the others have nothing to do. */
const longest = [
  'two-versions',
  'restore',
  'provisioning',
  'pages',
  'replay',
  'backends-ended',
  'kafka-faults',
  'subscribe',
  'start',
  'all-in-one',
  'kafka',
  'judges/api',
  'openapi-contract',
  'alarms',
  'cli',
  'cycle-kills',
  'real-counterparts',
  'rebuild',
  'event-contract',
  'cycle',
  'kafka-publisher',
  'product-model',
  'one-name',
  'apps',
  'histories',
  'ses-shards',
  'guide',
  'database-faults',
  'alarm-rules',
  'embedded-kafka',
  'webhooks-kills',
  'audit',
  'clients',
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
