import { appsOf, NoSuchApp } from './apps';

const namesOf = (...asked: Parameters<typeof appsOf>) => appsOf(...asked).map(({ name }) => name);

it('takes every app that has something to do', () => {
  const always = ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'sealer', 'webhooks'];
  expect(namesOf([], false)).toEqual(always);
  expect(namesOf([], true)).toEqual(['event-relay', ...always]);
});

it('takes those that are named, and no others', () => {
  expect(namesOf(['sender-policy', 'gateway'], true)).toEqual(['gateway', 'sender-policy']);
  expect(() => namesOf(['gateway', 'mail'], false)).toThrow(NoSuchApp);
  expect(() => namesOf(['mail'], false)).toThrow('There is no app mail. Name some of: event-relay, gateway, ');
});
