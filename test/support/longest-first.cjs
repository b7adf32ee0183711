const Sequencer = require('@jest/test-sequencer').default;

/** The suites that take longest, so that none of them is left to one worker while the other has nothing to do. */
const longest = [
  'backends-ended',
  'provisioning',
  'pages',
  'start',
  'replay',
  'subscribe',
  'kafka-faults',
  'judges/api',
  'webhooks-kills',
  'event-contract',
  'kafka',
  'cycle',
  'audit',
  'rebuild',
  'cycle-kills',
  'kafka-transport',
  'event-relay',
  'http',
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
