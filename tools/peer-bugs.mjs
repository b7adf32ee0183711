// Sixteen bugs that services of this kind are known for, each as a change of the sources and the test that must fail
// with it. `make mutants PEERS=1` plants them one at a time; test/peer-bugs.spec.ts holds that each still can be.

/**
 * A bug: `changes` of a file, each a text that it has once and what stands there instead; the title of the test is
 * written as in its file.
 */
export const peerBugs = [
  {
    name: 'unsafe-tail',
    what: 'A reader of the log goes by the newest position, and never sees an event that is committed later.',
    file: 'libs/event-store/event-store.migration.ts',
    changes: [['settled := least(drawn, first);', 'settled := drawn;']],
    test: {
      level: 'integration',
      file: 'libs/event-store/event-log.integration.spec.ts',
      title: 'skips nothing while an earlier position stays open for seconds and a thousand later ones commit',
    },
  },
  {
    name: 'dual-write',
    what: 'The row of the read model is written whether its events are or not.',
    file: 'libs/event-store/event-store.ts',
    changes: [
      ["'FROM inserted, (SELECT $8::text AS row) AS a'", "'FROM (SELECT $8::text AS row) AS a'"],
      ["'FROM inserted i JOIN appends a ON a.stream = i.stream AND a.version + 1 = i.version'", "'FROM found a'"],
    ],
    test: {
      level: 'integration',
      file: 'libs/event-store/event-store.integration.spec.ts',
      title: 'writes all events of an append or none, and the row only with them',
    },
  },
  {
    name: 'lost-update',
    what: 'Who has decided on an older state of a stream overwrites what others have decided since.',
    file: 'libs/event-store/event-store.ts',
    changes: [
      ['FROM found WHERE version = $2::int\n  ), inserted', 'FROM found\n  ), inserted'],
      ["'(SELECT bool_and(version = expected) FROM found)' : 'version = expected'}", "'true' : 'true'}"],
      [
        'if (found[i] === expected) resolve(expected + events.length);',
        'if (found[i]! >= 0) resolve(found[i]! + events.length);',
      ],
    ],
    test: {
      level: 'integration',
      file: 'libs/event-store/event-store.integration.spec.ts',
      title: 'many writers of one stream: each version is written once',
    },
  },
  {
    name: 'done-before-it-is',
    what: 'A consumer counts as done what it has only taken, and a crash loses it.',
    file: 'libs/messaging/ordered-dispatch.ts',
    changes: [
      ['const [first] = this.undone;\n    return first === undefined ? this.taken : first - 1;', 'return this.taken;'],
    ],
    test: {
      level: 'unit',
      file: 'libs/messaging/ordered-dispatch.spec.ts',
      title: 'has the position before the first event that is not done',
    },
  },
  {
    name: 'poison-message',
    what: 'A message that nobody can handle is tried for ever, and all that follow it wait.',
    file: 'libs/messaging/ordered-dispatch.ts',
    changes: [['stream.failures >= attempts || error instanceof', 'error instanceof']],
    test: {
      level: 'integration',
      file: 'libs/messaging/log-transport.integration.spec.ts',
      title: 'parks an event that always fails, with its error, and continues',
    },
  },
  {
    name: 'one-name-twice',
    what: 'A name is free when nobody has it at a look, so that two adds at the same time both get it.',
    file: 'libs/read-model/domains.migration.ts',
    changes: [
      [
        "CREATE UNIQUE INDEX domains_name_reserved ON domains (name)\n      WHERE status NOT IN ('rolled_back', 'deleted', 'released')",
        "CREATE INDEX domains_name_reserved ON domains (name)\n      WHERE status NOT IN ('rolled_back', 'deleted', 'released')",
      ],
    ],
    test: {
      level: 'integration',
      file: 'apps/gateway/gateway.integration.spec.ts',
      title: 'lets exactly one of two teams win, two hundred times',
    },
  },
  {
    name: 'squatting',
    what: 'Who adds a name first keeps it without ever proving that it is his.',
    file: 'libs/mail-domain/mail-domain.ts',
    changes: [['  if (state.firstVerifiedAt === undefined) return;\n', '']],
    test: {
      level: 'unit',
      file: 'libs/mail-domain/mail-domain.spec.ts',
      title: 'takes one that was never verified, record %s',
    },
  },
  {
    name: 'lost-compensation',
    what: 'An add that has failed frees the name, and leaves at the mail server and SES what was made for it.',
    file: 'apps/provisioning/provisioner.ts',
    changes: [
      [
        "      await this.removeForGood(state, awaited(signal), triedBefore || state.failure.kind === 'deadline');\n",
        '',
      ],
    ],
    test: {
      level: 'unit',
      file: 'apps/provisioning/provisioner.spec.ts',
      title: 'SES %s: it ends with neither, the name free, and a retry works',
    },
  },
  {
    name: 'swallowed-error',
    what: 'A deletion goes on when SES fails, so that the identity stays there without a domain.',
    file: 'apps/provisioning/provisioner.ts',
    changes: [
      [
        'if (error instanceof SesRefused) return null;\n      throw error;\n    });\n    if (!identity) return;',
        'void error;\n      return null;\n    });\n    if (!identity) return;',
      ],
    ],
    test: {
      level: 'unit',
      file: 'apps/provisioning/provisioner.spec.ts',
      title: 'a deletion does not end, and its name is not free, while SES does not answer',
    },
  },
  {
    name: 'identity-of-others',
    what: 'An identity of the name that is in the account already is taken for our own, and replaced.',
    file: 'apps/provisioning/provisioner.ts',
    changes: [
      ["    if (identity.domainId === null || !(await this.hasEnded(identity.domainId))) return 'foreign';\n", ''],
    ],
    test: {
      level: 'unit',
      file: 'apps/provisioning/provisioner.spec.ts',
      title: 'a foreign SES identity is refused and not changed',
    },
  },
  {
    name: 'outage-is-no-record',
    what: 'A resolver that does not answer is taken for a record that is not there.',
    file: 'libs/mail-records/answers.ts',
    changes: [
      [
        "if (!allServfail) return { kind: 'unreachable' };",
        "if (!allServfail) return { kind: 'nodata', aliases: [] };",
      ],
    ],
    test: {
      level: 'unit',
      file: 'libs/mail-records/judge.spec.ts',
      title: 'H10 no resolver answers: nobody can tell, and nothing is decided',
    },
  },
  {
    name: 'first-resolver-decides',
    what: 'One resolver that has an old answer decides for all.',
    file: 'libs/mail-records/answers.ts',
    changes: [
      ['if (others.every((answer) => meaning(answer) === meaning(first))) return first;', 'if (others) return first;'],
    ],
    test: {
      level: 'unit',
      file: 'libs/mail-records/judge.spec.ts',
      title: 'B24 G2 one resolver does not know it yet: propagating, not decided',
    },
  },
  {
    name: 'blip-mails',
    what: 'One look that finds a record missing fails the domain, and mails its owners.',
    file: 'libs/mail-domain/mail-domain.ts',
    changes: [
      [
        "} else if (broken && state.status === 'verified') {",
        "} else if (!scheduled && broken && state.status === 'verified') {",
      ],
      ['scheduled && strikesAfter(state, broken) >= strikesToFail', 'scheduled && broken'],
      [
        "const failed = provisioned(expectStatus(state, event, 'pending'));",
        "const failed = provisioned(expectStatus(state, event, 'pending', 'verified'));",
      ],
    ],
    test: {
      level: 'unit',
      file: 'libs/mail-domain/mail-domain.spec.ts',
      title: 'H3 verified, a sweep finds a definite fail: pending with one strike, verified_at kept',
    },
  },
  {
    name: 'two-strikes-in-a-cycle',
    what: 'A cycle that is done again after a crash counts its strike a second time.',
    file: 'libs/mail-domain/mail-domain.ts',
    changes: [
      [
        "if (scheduled && (state.status === 'failed' || (cycle ?? 0) <= (state.lastCycle ?? -1))) return [];",
        "if (scheduled && state.status === 'failed') return [];",
      ],
    ],
    test: {
      level: 'unit',
      file: 'libs/mail-domain/mail-domain.spec.ts',
      title: 'H16 a cycle judges a domain once, however often it is redone',
    },
  },
  {
    name: 'our-outage-fails-all',
    what: 'When most domains seem to fail at once, all of them do, and all owners are mailed about a fault of ours.',
    file: 'apps/verification-scheduler/circuit-breaker.ts',
    changes: [['export const largestShare = 0.2;', 'export const largestShare = 1;']],
    test: {
      level: 'integration',
      file: 'apps/verification-scheduler/slot-runner.integration.spec.ts',
      title: 'H21 stops a slot in which more than a fifth of the verified domains fail at once, with one alarm',
    },
  },
  {
    name: 'told-again',
    what: 'A notice that is sent again after a crash goes to those as well who have got it.',
    file: 'apps/notifier/deliveries.ts',
    changes: [
      [
        "'SELECT recipient FROM deliveries WHERE episode = $1',",
        "'SELECT recipient FROM deliveries WHERE episode = $1 AND false',",
      ],
    ],
    test: {
      level: 'integration',
      file: 'apps/notifier/notifier.integration.spec.ts',
      title: 'sends at most one mail twice when it dies before the mail is recorded',
    },
  },
];

/**
 * Gives a source with a bug planted.
 *
 * @throws {Error} where a text of the bug is not in the source, or more than once.
 */
export function planted({ name, file, changes }, source) {
  let changed = source;
  for (const [text, instead] of changes) {
    const found = changed.split(text).length - 1;
    if (found !== 1) throw new Error(`${name} cannot be planted: ${file} has this ${found} times:\n${text}`);
    changed = changed.replace(text, () => instead);
  }
  return changed;
}

/** Gives the pattern of a title as Jest shows it, where a table of cases fills its places. */
export const titlePattern = (title) => title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/%[sdij]/g, '.*');
