import type { FastifyReply } from 'fastify';
import { entityTag, Preconditions, tagByEpoch } from './preconditions';

afterEach(() => tagByEpoch(1));

const reply = { header: () => reply, status: () => reply } as unknown as FastifyReply;

it('names the epoch of a log that was restored in every tag, and no version from before', () => {
  const before = entityTag(7);
  expect(before).toBe('W/"7"');
  tagByEpoch(1_796_000_000);
  expect(entityTag(7)).toBe('W/"7-1796000000"');
  expect(new Preconditions('GET', undefined, before).isUnchanged(7, reply)).toBe(false);
  expect(() => new Preconditions('PATCH', before, undefined).demand(7)).toThrow();
  expect(new Preconditions('PATCH', entityTag(7), undefined).demand(7)).toBe(7);
});
