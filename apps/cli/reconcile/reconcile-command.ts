import type { Command } from 'commander';
import { examples, print, table } from '../output';
import { UsedWrongly } from '../used-wrongly';
import { areas, type Area, type Asked, type Outcome } from './findings';

interface Options {
  readonly repair?: boolean;
  readonly adoptLost?: boolean;
  readonly deleteLost?: boolean;
  readonly quick?: boolean;
  readonly account?: string;
  readonly limit: string;
}

/** Adds `sendmux reconcile`. */
export function addReconcile(program: Command): void {
  program
    .command('reconcile')
    .description('compares the log with SES, the mail server, Kafka and the read models; repairs what it is asked to')
    .argument('[areas...]', `what to compare: ${areas.join(', ')}; all where absent`)
    .option('--repair', 'has everything that the log has become what the log says')
    .option('--adopt-lost', 'keeps identities of SES that a restored log has lost, with their keys, for the next add')
    .option('--delete-lost', 'deletes what SES and the mail server have of domains that a restored log has lost')
    .option('--quick', 'compares the names of identities alone: the others take a call of SES each')
    .option('--account <number>', 'number of the AWS account for --adopt-lost, where the credentials do not name it')
    .option('--limit <number>', 'how many differences are shown; all are counted', '50')
    .addHelpText(
      'after',
      `${examples(
        'sendmux reconcile',
        'sendmux reconcile --repair',
        'sendmux reconcile mail-server --repair --json',
        'sendmux reconcile ses --adopt-lost --account 123456789012',
      )}

Without an option it changes nothing. Everything goes on meanwhile; what is being added or deleted at this moment may be
named. What the log has never known is named as foreign, and never changed: \`sendmux ses release\` deletes one of these.

Exit status: 0 nothing differs, or all of it is repaired or asked for; 1 something is left.`,
    )
    .action(async (given: string[], options: Options, command: Command) => {
      const { reconcile } = await import('./reconcile.js');
      const limit = Number(options.limit);
      if (!Number.isInteger(limit) || limit < 0) throw new UsedWrongly(`--limit ${options.limit} is no number.`);
      if (options.adoptLost && options.deleteLost) throw new UsedWrongly('Give --adopt-lost or --delete-lost.');
      if (options.account !== undefined && !/^\d{12}$/.test(options.account))
        throw new UsedWrongly('Give the twelve digits of the AWS account with --account.');
      const asked: Asked = {
        fromLog: options.repair === true,
        lost: options.adoptLost ? 'adopt' : options.deleteLost ? 'delete' : 'keep',
      };
      const chosen = given.map(areaOf);
      const outcome = await reconcile({
        areas: chosen.length > 0 ? chosen : areas,
        asked,
        limit,
        isDeep: options.quick !== true,
        account: options.account,
      });
      print(command, outcome, () => shownAs(outcome, asked));
      if (outcome.remaining > 0)
        throw new Error(
          `${outcome.remaining} differences are left: --repair has them become what the log says, --adopt-lost or --delete-lost is for what it has lost.`,
        );
    });
}

function areaOf(name: string): Area {
  if ((areas as readonly string[]).includes(name)) return name as Area;
  throw new UsedWrongly(`There is no ${name} to compare: it is one of ${areas.join(', ')}.`);
}

function shownAs({ counts, shown, notes, repaired }: Outcome, asked: Asked): string[] {
  const totals = Object.entries(counts).flatMap(([area, kinds]) =>
    Object.entries(kinds).map(([kind, count]) => `${area}: ${count} ${kind}`),
  );
  return [
    ...(shown.length > 0
      ? table(
          ['AREA', 'KIND', 'WHAT', 'THE LOG SAYS', 'THERE', ''],
          shown.map(({ area, kind, what, log, there, done = '' }) => [area, kind, what, log, there, done]),
        )
      : []),
    ...notes,
    totals.length === 0 ? 'Nothing differs.' : totals.join(', '),
    ...(repaired > 0 && asked.fromLog ? ['Provisioning is at what was asked for. Compare again in a while.'] : []),
  ];
}
