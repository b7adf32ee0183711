import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { StoredShards, type ShardUse } from '@app/read-model';
import { sesShards, shardSettings, type SesShard } from '@app/runtime';
import { SesDenied, SharedTurns, type Call, type SesAccount, type Turns } from '@app/ses';
import { SesWriter } from '@app/ses-writer';
import { check, failed, ok, warning, type Finding } from '../check';
import { reasonOf } from '../diagnose';
import { withDatabase } from '../with-database';

/** The part of its capacity from which a shard is nearly full, as the alarm of the schedulers has it. */
const nearlyFull = 0.8;

/**
 * Calls what the apps call, of an identity that nobody can have: SES says that it is not there, or that the call is not
 * allowed. Whether an identity may be made (`ses:CreateEmailIdentity`, `ses:TagResource`) only an add can tell.
 */
const calls: Record<string, (ses: SesWriter, name: string, call: Call) => Promise<unknown>> = {
  'ses:ListEmailIdentities': (ses, _name, call) => ses.list(call).next(),
  'ses:GetEmailIdentity': (ses, name, call) => ses.get(name, call),
  'ses:DeleteEmailIdentity': (ses, name, call) => ses.delete(name, call),
  'ses:PutEmailIdentityDkimSigningAttributes': (ses, name, call) => ses.restartDkim(name, call),
  'ses:PutEmailIdentityMailFromAttributes': (ses, name, call) => ses.setMailFrom(name, `bounce.${name}`, call),
};

/** Looks at each account and Region of SES: what may be called there, what is left, and whether it sends. */
export const ses = check({
  name: 'ses',
  needs: [...shardSettings, 'SES_TIMEOUT', 'DATABASE_URL', 'DATABASE_DIRECT_URL'],
  withinMs: 40_000,
  remedy: 'SES, or the turns that its calls wait for, are slow: look at `sendmux_ses_wait_seconds`.',
  run: async ({ settings, signal }) => {
    const url = settings.DATABASE_DIRECT_URL ?? settings.DATABASE_URL;
    const timeoutMs = Math.min(settings.SES_TIMEOUT, 5_000);
    return withDatabase(url, async (pool) => {
      const uses = await new StoredShards(pool).uses().catch(() => undefined);
      const all = await Promise.all(
        sesShards(settings).map(async (shard) => {
          const turns = uses ? new SharedTurns(pool, shard) : alone(shard);
          const writer = new SesWriter({ ...shard, timeoutMs }, turns);
          try {
            const use = uses?.find(({ name }) => name === shard.name);
            const found = [...(await rightsIn(writer, signal)), ...capacityOf(shard, use), ...rateOf(shard)];
            const worse = found.filter(({ level }) => level !== 'ok');
            return (worse.length > 0 ? worse : found.slice(0, 1)).map((finding) => ({ ...finding, of: shard.name }));
          } finally {
            writer.close();
          }
        }),
      );
      return all.flat();
    });
  },
});

async function rightsIn(writer: SesWriter, signal: AbortSignal): Promise<Finding[]> {
  const call: Call = { priority: 'check', signal };
  const name = `doctor-${randomUUID()}.invalid`;
  const findings: Finding[] = [];
  for (const [right, use] of Object.entries(calls))
    try {
      await use(writer, name, call);
    } catch (error) {
      if (!(error instanceof SesDenied)) return [...findings, unanswered(error as Error)];
      const credentials = /Credentials|Token|Signature|UnrecognizedClient/.test(error.message);
      if (credentials)
        return [
          failed(`${reasonOf(error)}. Mend the credentials that the AWS SDK finds, or the clock of this machine.`),
        ];
      findings.push(failed(`${reasonOf(error)}. Allow ${right} to the credentials of the apps.`));
    }
  try {
    return [...findings, ...sendingOf(await writer.sending(call))];
  } catch (error) {
    if (!(error instanceof SesDenied)) return [...findings, unanswered(error as Error)];
    return [
      ...findings,
      warning('Whether the account may send is not known: allow ses:GetAccount to the credentials of this command.'),
    ];
  }
}

const unanswered = (error: Error): Finding =>
  failed(`${reasonOf(error)}. Look at the way to SES, at AWS_ENDPOINT_URL_SESV2 and at the state of AWS.`);

function sendingOf({ isEnabled, isInProduction, enforcement, daily, aSecond }: SesAccount): Finding[] {
  if (!isEnabled || enforcement === 'SHUTDOWN')
    return [failed('SES does not send for this account. Its console says why; AWS lifts it.')];
  if (enforcement === 'PROBATION')
    return [warning('SES has the account under review. Its console says why: mend that before it stops sending.')];
  if (!isInProduction)
    return [warning('SES sends for this account to verified addresses alone: ask AWS for production access.')];
  return [ok(`All calls are allowed; it sends ${shown(daily)} mails a day and ${shown(aSecond)} a second.`)];
}

const shown = (count: number | undefined): string =>
  count === undefined ? 'an unknown number of' : count < 0 ? 'any number of' : count.toLocaleString('en');

function capacityOf({ name, capacity }: SesShard, use: ShardUse | undefined): Finding[] {
  if (!use) return [];
  const { identities, isDraining, isFailing, lastError } = use;
  const part = identities / capacity;
  return [
    ...(part >= nearlyFull
      ? [
          (part >= 1 ? failed : warning)(
            `It has ${identities} of ${capacity} identities: add a shard, or have AWS raise the limit, and then \`capacity\`.`,
          ),
        ]
      : []),
    ...(isFailing ? [failed(`Calls of the apps fail there (${lastError ?? 'no answer'}): their logs say why.`)] : []),
    ...(isDraining
      ? [warning(`It takes no new domains, since an operator has closed it: \`sendmux ses undrain ${name}\` opens it.`)]
      : []),
  ];
}

/** SES allows one call about identities a second in a Region of an account, unless AWS has raised it. */
const rateOf = ({ endpoint, callsPerSecond }: SesShard): Finding[] =>
  endpoint === undefined && callsPerSecond > 1
    ? [
        warning(
          `It is called ${callsPerSecond} times a second, and SES allows one: lower SES_CALLS_PER_SECOND, unless AWS has raised it.`,
        ),
      ]
    : [];

/** Has calls take turns of this process alone, where the database does not give those of all. */
function alone({ callsPerSecond }: SesShard): Turns {
  let next = 0;
  return {
    take: async ({ signal }) => {
      const now = performance.now();
      const begin = Math.max(now, next);
      next = begin + 1_100 / callsPerSecond;
      await delay(begin - now, undefined, { signal });
    },
    slowDown: () => delay(1_000),
  };
}
