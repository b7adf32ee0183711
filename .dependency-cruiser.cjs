/** The arrows of the house. Each rule is proved awake by a planted violation in test/boundaries.spec.ts. */
const pure = '^libs/(mail-domain|mailbox)/';
const only = (name, from, to, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: `^libs/${from}/`, pathNot: '\\.spec\\.ts$' },
  to: { path: '^(libs|apps|local|test)/', pathNot: `^libs/(${[from, ...to].join('|')})/` },
});

module.exports = {
  forbidden: [
    {
      name: 'model-is-pure',
      comment: 'The model imports nothing of ours, no Nest, no I/O and no clock: only pure packages.',
      severity: 'error',
      from: { path: pure, pathNot: '\\.spec\\.ts$' },
      to: { pathNot: [pure, '^node_modules/(tldts|tldts-core|tr46|@types/tr46)/'] },
    },
    only('accounts-arrows', 'accounts', ['database', 'runtime'], 'Teams and keys know no domain.'),
    only(
      'audit-arrows',
      'audit',
      ['event-store', 'database', 'runtime'],
      'The log as rows and hashes, whatever they mean.',
    ),
    only(
      'commands-arrows',
      'commands',
      ['mail-domain', 'mailbox', 'event-store', 'read-model', 'runtime', 'database'],
      'The only place where model and store meet.',
    ),
    only('cycle-arrows', 'cycle', ['database'], 'A function of time, and how far it has come.'),
    only('database-arrows', 'database', ['runtime'], 'A pool and migrations, nothing of the business.'),
    only('dns-arrows', 'dns', [], 'A DoH client for anybody.'),
    only('event-store-arrows', 'event-store', ['database', 'runtime'], 'The store knows no aggregate.'),
    only('mail-server-arrows', 'mail-server', ['database', 'runtime'], 'An adapter.'),
    {
      name: 'mail-domain-first',
      comment: 'A mailbox lives on a domain; a domain knows no mailbox.',
      severity: 'error',
      from: { path: '^libs/mail-domain/' },
      to: { path: '^libs/mailbox/' },
    },
    only(
      'messaging-arrows',
      'messaging',
      ['event-store', 'database', 'runtime'],
      'Carries events, knows none of them.',
    ),
    only(
      'read-model-arrows',
      'read-model',
      ['mail-domain', 'mailbox', 'event-store', 'database', 'runtime'],
      'Rows from states.',
    ),
    only(
      'rebuild-arrows',
      'rebuild',
      ['commands', 'event-store', 'read-model', 'database', 'runtime'],
      'Folds as the handlers of commands do, and knows no event.',
    ),
    only('runtime-arrows', 'runtime', [], 'Below everything.'),
    only('ses-arrows', 'ses', ['runtime'], 'An adapter.'),
    only('tasks-arrows', 'tasks', ['database', 'runtime'], 'A list of things to do, whatever they are.'),
    only(
      'verification-arrows',
      'verification',
      ['dns', 'mail-domain', 'ses', 'runtime'],
      'Asks, and hands the answers to the verdicts.',
    ),
    {
      name: 'libs-through-index',
      comment: 'Only the index of a lib is public.',
      severity: 'error',
      from: { path: '^(apps|libs|local)/([^/]+)/' },
      to: { path: '^libs/([^/]+)/(?!index\\.ts$)', pathNot: '^$1/$2/' },
    },
    {
      name: 'apps-apart',
      comment: 'An app never imports another app: they meet in events and tables of the libs.',
      severity: 'error',
      from: { path: '^apps/([^/]+)/', pathNot: '\\.spec\\.ts$' },
      to: { path: '^(apps|local|test)/', pathNot: '^apps/$1/' },
    },
    {
      name: 'gateway-knows-no-counterpart',
      comment: 'The gateway sends commands and reads: SES, the mail server and Kafka are somebody else’s.',
      severity: 'error',
      from: { path: '^apps/gateway/' },
      to: { path: '^(libs/(ses|mail-server|messaging)/|node_modules/(@aws-sdk|kafkajs)/)' },
    },
    {
      name: 'one-sdk-one-place',
      comment: 'The AWS SDK is imported by libs/ses alone.',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: ['^libs/ses/', '\\.spec\\.ts$'] },
      to: { path: '^node_modules/@aws-sdk/' },
    },
    {
      name: 'one-kafka-client-one-place',
      comment: 'Which Kafka client is used is the business of one file.',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: ['^libs/messaging/kafka-client\\.ts$', '\\.spec\\.ts$'] },
      to: { path: '^node_modules/kafkajs/' },
    },
    {
      name: 'no-cycles',
      comment: 'A cycle has no first thing to read.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
