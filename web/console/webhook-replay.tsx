import { useState } from 'preact/hooks';
import { answerTo, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { Badge } from '../shared/badge';
import { Problem } from '../shared/problem';
import { localToTime, shownTime } from '../shared/time';
import { Field } from './parts';
import { useSession } from './session';
import { useAction, useLoaded } from './use-api';
import type { Webhook } from './webhooks';

type Replay = Schemas['ReplaySchema'];

/** Sends everything of a span of time once more, and shows how far that has come. */
export function ReplaySection({ webhook: { id } }: { readonly webhook: Webhook }) {
  const { api } = useSession();
  const [from, setFrom] = useState('');
  const [to, setTo] = useState('');
  const { run, failure, isBusy } = useAction();
  const replays = useLoaded(
    () => answerTo(api.GET('/webhooks/{id}/replays', { params: { path: { id }, query: { limit: 5 } } })),
    [api, id],
    2_000,
  );
  const begin = (event: Event): void => {
    event.preventDefault();
    const begins = localToTime(from);
    if (begins === null) return;
    const ends = localToTime(to);
    void run(async () => {
      const body = { from: begins, ...(ends !== null && { to: ends }) };
      await answerTo(api.POST('/webhooks/{id}/replay', { params: { path: { id } }, body }));
      announce('The replay has begun.');
      await replays.reload();
    });
  };
  const stop = (replay: Replay): void =>
    void run(async () => {
      const params = { path: { id, replay_id: replay.id } };
      await answerTo(api.POST('/webhooks/{id}/replays/{replay_id}/stop', { params }));
      announce('The replay is stopped.');
      await replays.reload();
    });
  return (
    <section class="card stack" aria-labelledby="replay">
      <h2 id="replay">Replay</h2>
      <p class="quiet">
        Sends everything of a span of time once more, in order, beside what happens meanwhile. The messages have the
        same ids as before.
      </p>
      <form class="row" onSubmit={begin}>
        <Field
          id="from"
          label="From"
          hint="By the clock of this device."
          type="datetime-local"
          step="1"
          required
          value={from}
          onValue={setFrom}
        />
        <Field
          id="to"
          label="To"
          hint="Until now where it is empty."
          type="datetime-local"
          step="1"
          value={to}
          onValue={setTo}
        />
        <button disabled={isBusy}>Replay</button>
      </form>
      {failure && <Problem failure={failure} />}
      {replays.failure && <Problem failure={replays.failure} />}
      {(replays.value?.data ?? []).map((replay) => (
        <Progress key={replay.id} replay={replay} isBusy={isBusy} onStop={() => stop(replay)} />
      ))}
    </section>
  );
}

function Progress({
  replay,
  isBusy,
  onStop,
}: {
  readonly replay: Replay;
  readonly isBusy: boolean;
  readonly onStop: () => void;
}) {
  const isRunning = replay.status === 'running';
  const words = { running: 'Running', stopped: 'Stopped', completed: 'Completed' }[replay.status] ?? replay.status;
  return (
    <div class="row apart">
      <p>
        <Badge tone={isRunning ? 'wait' : replay.status === 'completed' ? 'good' : 'plain'} words={words} />{' '}
        {shownTime(replay.from)} to {shownTime(replay.to)}: {replay.delivered} delivered
        {replay.failed > 0 && <>, {replay.failed} failed</>} of {replay.queued}
        {isRunning && <> so far</>}
      </p>
      {isRunning && (
        <>
          <progress
            max={1}
            value={replay.progress}
            aria-label={`How much of the span from ${shownTime(replay.from)} is read`}
          />
          <button type="button" disabled={isBusy} onClick={onStop}>
            Stop
          </button>
        </>
      )}
    </div>
  );
}
