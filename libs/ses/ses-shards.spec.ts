import { SesUnavailable, type SesIdentities } from './ses-identities';
import { SesShards } from './ses-shards';

const closed: string[] = [];
const shards = new SesShards(
  ['default', 'us-1'].map((name) => ({ name, region: `region-of-${name}`, capacity: 10, callsPerSecond: 1 })),
  ({ name, region }) =>
    ({
      get: (identity: string) => Promise.resolve({ name: identity, region }),
      close: () => void closed.push(name),
    }) as unknown as SesIdentities,
);

describe('the shards of SES', () => {
  it.each([
    ['us-1', 'region-of-us-1'],
    ['default', 'region-of-default'],
    [undefined, 'region-of-default'],
  ])('asks the shard %s in %s', async (shard, region) => {
    expect(await shards.get('mail.acme.com', {}, shard)).toEqual({ name: 'mail.acme.com', region });
  });

  it('has no answer of a shard that only the settings of another process have', async () => {
    await expect(shards.get('mail.acme.com', {}, 'eu-9')).rejects.toThrow(SesUnavailable);
    await expect(shards.get('mail.acme.com', {}, 'eu-9')).rejects.toThrow(/no shard eu-9/);
  });

  it('closes all of them', () => {
    shards.close();
    expect(closed).toEqual(['default', 'us-1']);
  });
});
