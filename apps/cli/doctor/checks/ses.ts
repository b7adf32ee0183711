import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { StoredShards, type ShardUse } from '@app/read-model';
import { sesShards, shardSettings, type SesShard } from '@app/runtime';
import { SesDenied, SesRefused, SharedTurns, type Call, type SesAccount, type Turns } from '@app/ses';
import { SesWriter } from '@app/ses-writer';
import { check, failed, ok, warning, type Check, type Finding } from '../check';
import { reasonOf } from '../diagnose';
import { withDatabase } from '../with-database';

/** The part of its capacity from which a shard is nearly full, as the alarm of the schedulers has it. */
const nearlyFull = 0.8;

/**
 * Calls what the apps call, of an identity that nobody can have: SES says that it is not there, or that the call is not
 * allowed. Whether an identity or a tenant may be made (`ses:CreateEmailIdentity`, `ses:TagResource`,
 * `ses:CreateTenant`) only an add can tell.
 */
const trialsOf = (ses: SesWriter, shard: SesShard, name: string): ((call: Call) => Promise<unknown>)[] => [
  (call) => ses.list(call).next(),
  (call) => ses.get(name, call),
  // Before a deletion, which lists tenants too.
  ...(shard.tenantConfigurationSet === undefined ? [] : ses.tenantTrials(name)),
  (call) => ses.delete(name, call),
  (call) => ses.restartDkim(name, call),
  (call) => ses.setMailFrom(name, `bounce.${name}`, call),
];

/**
 * Looks at each account and Region of SES: what may be called there, what is left, and whether it sends.
 *
 * @param patienceMs milliseconds after which it tries no further calls: those of customers go first.
 */
export const ses = (patienceMs = 35_000): Check =>
  check({
    name: 'ses',
    needs: [...shardSettings, 'SES_TIMEOUT', 'DATABASE_URL', 'DATABASE_DIRECT_URL'],
    withinMs: 40_000,
    remedy: 'SES, or the turns that its calls wait for, are slow: look at `sendmux_ses_wait_seconds`.',
    run: async ({ settings, signal }) => {
      const patience = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)]);
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
              const found = [...(await rightsIn(writer, shard, patience)), ...capacityOf(shard, use), ...rateOf(shard)];
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

/** Answers of SES to a name that it knows nothing of: the call was allowed. */
const answers = /^(BadRequest|Validation|NotFound)/;
/** What SES refuses to somebody who may not make the call. */
const lacksRight = /^(AccessDenied|NotAuthorized|Unauthorized)/;
/** What SES, or the SDK, refuses whatever the call is. */
const lacksCredentials =
  /Credentials|Token|Signature|UnrecognizedClient|AuthFailure|InvalidAccessKeyId|^Request(Expired|InTheFuture|TimeTooSkewed)/;

async function rightsIn(writer: SesWriter, shard: SesShard, signal: AbortSignal): Promise<Finding[]> {
  const call: Call = { priority: 'check', signal };
  const findings = new Map<string, Finding>();
  for (const trial of trialsOf(writer, shard, `doctor-${randomUUID()}.invalid`))
    try {
      await trial(call);
    } catch (error) {
      if (error instanceof SesRefused) continue;
      if (!(error instanceof SesDenied)) return [...findings.values(), unanswered(error as Error, signal)];
      const { operation = '', cause } = error;
      const reason = cause instanceof Error ? cause.name : '';
      const isOfName = operation !== 'ListEmailIdentities' && operation !== 'ListTenants';
      if (isOfName && answers.test(reason)) continue;
      if (!lacksRight.test(reason)) return [...findings.values(), failed(`${reasonOf(error)}. ${remedyOf(reason)}`)];
      findings.set(operation, failed(`${reasonOf(error)}. Allow ses:${operation} to the credentials of the apps.`));
    }
  return [...findings.values(), ...(await accountOf(writer, call))];
}

const remedyOf = (reason: string): string =>
  lacksCredentials.test(reason)
    ? 'Mend the credentials that the AWS SDK finds, or the clock of this machine.'
    : 'Look at the account in the console of AWS: what it may have, and whether it is suspended.';

async function accountOf(writer: SesWriter, call: Call): Promise<Finding[]> {
  try {
    return sendingOf(await writer.sending(call));
  } catch (error) {
    if (!(error instanceof SesDenied)) return [unanswered(error as Error, call.signal!)];
    return [
      warning('Whether the account may send is not known: allow ses:GetAccount to the credentials of this command.'),
    ];
  }
}

const unanswered = (error: Error, patience: AbortSignal): Finding =>
  patience.aborted
    ? warning(
        'Not all calls could be tried, since those of the apps go first, and SES allows few: look at `sendmux_ses_wait_seconds`, and run it again when fewer wait.',
      )
    : failed(`${reasonOf(error)}. Look at the way to SES, at AWS_ENDPOINT_URL_SESV2 and at the state of AWS.`);

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
