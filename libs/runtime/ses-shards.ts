import { readFileSync } from 'node:fs';
import { z } from 'zod';

/** The shard of every domain whose events name none: those from before there were shards. */
export const defaultShard = 'default';

/** The identities that SES allows an account in a Region, unless AWS has raised it. */
const sesIdentities = 10_000;

/** An account and Region of Amazon SES, which has the identities of some of the domains. */
export interface SesShard {
  /** The name that events, metrics and commands use. It must not change while a domain is in the shard. */
  readonly name: string;
  /** AWS Region, such as `eu-west-1`. */
  readonly region: string;
  /** Where SES answers; AWS's own when absent. */
  readonly endpoint?: string | undefined;
  /** ARN of the role that is assumed with the credentials of this process; at most one of it and `profile` is there. */
  readonly roleArn?: string | undefined;
  /** Profile in the files of the AWS SDK, whose credentials are used. */
  readonly profile?: string | undefined;
  /** The most identities of ours that it may have. */
  readonly capacity: number;
  /** Identity calls that all processes together make a second. */
  readonly callsPerSecond: number;
  /**
   * The configuration set that the mail of all teams uses. Where it is named, each team that has a domain in the shard
   * gets a tenant of SES: a tenant cannot send without one.
   */
  readonly tenantConfigurationSet?: string | undefined;
}

export const regionForm = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
export const regionFault = 'must be the name of a Region, such as eu-west-1';

const between = (min: number, max: number) => {
  const fault = `must be a number from ${min} to ${max}`;
  return z.number({ error: fault }).min(min, fault).max(max, fault);
};

const shard = z
  .strictObject({
    name: z
      .string({ error: 'must be there' })
      .regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, 'must be lower case letters, digits and dashes, at most 32'),
    region: z.string({ error: 'must be there' }).regex(regionForm, regionFault),
    endpoint: z.url({ protocol: /^https?$/, error: 'must be a URL that starts with https: or http:' }).optional(),
    roleArn: z
      .string()
      .regex(/^arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@/-]{1,512}$/, 'must be the ARN of a role of IAM')
      .optional(),
    profile: z.string().min(1).max(256).optional(),
    capacity: between(1, 1_000_000_000).int('must be a whole number').default(sesIdentities),
    callsPerSecond: between(0.1, 10_000).optional(),
    tenantConfigurationSet: z
      .string()
      .regex(/^[\w-]{1,64}$/, 'must be letters, digits, dashes and underscores, at most 64')
      .optional(),
  })
  .refine(
    ({ roleArn, profile }) => roleArn === undefined || profile === undefined,
    'has roleArn and profile: only one of them says whose account it is',
  );

type ListedShard = z.output<typeof shard>;

const allDiffer = (keys: readonly string[]): boolean => new Set(keys).size === keys.length;

/** What two shards of one account and Region have in common. */
const placeOf = ({ region, endpoint, roleArn, profile }: ListedShard): string =>
  JSON.stringify([region, endpoint, roleArn, profile]);

/** A list of shards in JSON, or `@` and the path of a file that has it. */
export const shardList = z
  .string()
  .transform((text, context): unknown => {
    try {
      return JSON.parse(text.startsWith('@') ? readFileSync(text.slice(1), 'utf8') : text);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      context.addIssue(code ? `cannot be read from its file: ${message}` : 'must be JSON, or @ and the path of a file');
      return z.NEVER;
    }
  })
  .pipe(
    z
      .array(shard, { error: 'must be an array of shards' })
      .min(1, 'must have a shard')
      .max(10_000, 'may have 10,000 shards at most')
      .refine((shards) => allDiffer(shards.map(({ name }) => name)), 'names two shards the same')
      .refine((shards) => allDiffer(shards.map(placeOf)), 'has the same account and Region twice'),
  );

/** The settings that say which shards there are. */
export interface ShardSettings {
  readonly SES_SHARDS?: readonly ListedShard[] | undefined;
  readonly AWS_REGION: string;
  readonly AWS_ENDPOINT_URL_SESV2?: string | undefined;
  readonly SES_CALLS_PER_SECOND: number;
  readonly MAX_DOMAINS: number;
}

/** The names of the settings that say which shards there are. */
export const shardSettings = [
  'SES_SHARDS',
  'AWS_REGION',
  'AWS_ENDPOINT_URL_SESV2',
  'SES_CALLS_PER_SECOND',
  'MAX_DOMAINS',
] as const satisfies readonly (keyof ShardSettings)[];

/** Gives the shards of the settings in their order: without `SES_SHARDS` one, the account and Region of the AWS SDK. */
export function sesShards(settings: ShardSettings): readonly [SesShard, ...SesShard[]] {
  const { SES_SHARDS, AWS_REGION, AWS_ENDPOINT_URL_SESV2, SES_CALLS_PER_SECOND, MAX_DOMAINS } = settings;
  const listed = SES_SHARDS?.map((each) => ({
    ...each,
    endpoint: each.endpoint ?? AWS_ENDPOINT_URL_SESV2,
    callsPerSecond: each.callsPerSecond ?? SES_CALLS_PER_SECOND,
  })) ?? [
    {
      name: defaultShard,
      region: AWS_REGION,
      endpoint: AWS_ENDPOINT_URL_SESV2,
      capacity: Math.max(sesIdentities, MAX_DOMAINS),
      callsPerSecond: SES_CALLS_PER_SECOND,
    },
  ];
  return listed as [SesShard, ...SesShard[]];
}
