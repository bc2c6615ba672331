"The table of events."
import sqlalchemy as sa
from alembic import op

revision, down_revision = '0001', None

def upgrade():
    def texts(*names): return [sa.Column(name, sa.Text, nullable=False) for name in names]
    op.create_table(
        'events', sa.Column('event_id', sa.Text, primary_key=True),
        sa.Column('ts', sa.BigInteger, nullable=False),
        sa.Column('day', sa.Integer, nullable=False, index=True),
        *texts('kind', 'unit', 'request_id', 'film_id'), sa.Column('position', sa.Integer),
        *texts('model_version', 'experiment', 'variant'), sa.Column('value', sa.Float),
        *texts('payload'))

def downgrade(): op.drop_table('events')
